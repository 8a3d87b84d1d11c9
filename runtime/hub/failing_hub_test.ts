import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { planPull, pull } from "./pull.ts";
import { Staging } from "./staging.ts";
import { type Intercept, sendError } from "./test_hub.ts";
import { onStorage, PullTest, WEIGHTS } from "./test_pull.ts";

const test = PullTest.use();

describe("pull from a hub that fails", () => {
  it("refuses a wrong checksum after one more try", () =>
    inFolder(async (dir) => {
      const wrong: Intercept = (_, response) => {
        response.end(WEIGHTS.map((byte) => byte ^ 1));
        return true;
      };
      test.hub.intercept = onStorage(wrong);
      await pull(test.options(dir));
      test.hub.intercept = onStorage(wrong, wrong);
      await test.assertFails(test.options(join(dir, "2")), "Cannot verify model.safetensors", "sha256");
      test.hub.intercept = ({ path }, response) => {
        if (!path.endsWith("tokenizer.json")) return false;
        response.end("[]");
        return true;
      };
      await test.assertFails(test.options(join(dir, "3")), "Cannot verify tokenizer.json", "git-sha1");
    }));

  it("refuses more bytes than are listed", () =>
    inFolder(async (dir) => {
      const endless: Intercept = (_, response) => {
        response.write(WEIGHTS);
        response.end(WEIGHTS);
        return true;
      };
      test.hub.intercept = onStorage(...Array.from({ length: 9 }, () => endless));
      await test.assertFails(
        test.options(dir),
        "Cannot download model.safetensors",
        "sends more than the 3000000 bytes",
      );
    }));

  it("waits as long as a 429 asks, and tries again after a 5xx", () =>
    inFolder(async (dir) => {
      const answers = [429, 503, 500];
      test.hub.intercept = (_, response) => {
        const status = answers.shift();
        if (status === undefined) return false;
        if (status === 429) response.setHeader("retry-after", "7");
        sendError(response, status);
        return true;
      };
      const waits: (string | undefined)[] = [];
      await pull(test.options(dir, { onProgress: ({ waiting }) => waiting !== undefined && waits.push(waiting) }));
      assertEquals([test.pauses[0], test.pauses.length], [7000, 3]);
      assertEquals(waits[0], "the hub answered 429");
      test.hub.intercept = (_, response) => {
        sendError(response, 503);
        return true;
      };
      await test.assertFails(test.options(join(dir, "2")), "the hub answered 503, after 6 attempts");
      test.hub.intercept = (_, response) => {
        response.setHeader("retry-after", "3600");
        sendError(response, 429);
        return true;
      };
      await test.assertFails(test.options(join(dir, "3")), "answered 429 and asks to wait 60 minutes");
    }));

  it("gives up a connection that falls silent", () =>
    inFolder(async (dir) => {
      const silent: Intercept = (_, response) => {
        response.writeHead(200, { "content-length": WEIGHTS.length });
        response.write(WEIGHTS.subarray(0, 1_500_000));
        return true;
      };
      test.hub.intercept = onStorage(silent);
      await pull(test.options(dir, { stallMs: 300 }));
      const [first, second] = test.starts();
      assert(first === 0 && 0 < second! && second! <= 1_500_000, `${test.starts()}`);
    }));

  it("says what to do about a gated, private or missing repository", () =>
    inFolder(async (dir) => {
      const cases: readonly (readonly [status: number, code: string, token: boolean, ...parts: string[]])[] = [
        [401, "GatedRepo", false, "it is gated (401)", "accept its licence at", "set HF_TOKEN"],
        [403, "GatedRepo", true, "the account of HF_TOKEN has no access: accept its licence at"],
        [401, "RepoNotFound", false, "no public repository of this name (401)", "set HF_TOKEN"],
        [401, "", true, "refuses the token from HF_TOKEN (401)"],
        [403, "", true, "the token from HF_TOKEN may not read it"],
        [404, "RepoNotFound", true, 'no such repository or revision "main" (404)'],
        [418, "", false, "answered 418"],
      ];
      for (const [status, code, token, ...parts] of cases) {
        test.hub.intercept = (_, response) => {
          sendError(response, status, code);
          return true;
        };
        await test.assertFails(test.options(dir, token ? test.withToken() : {}), ...parts);
      }
      assertEquals([test.pauses.length, readdirSync(dir).length], [0, 0]);
    }));

  it("sends the token to the hub and not to where it redirects", () =>
    inFolder(async (dir) => {
      await pull(test.options(dir, test.withToken("any-form")));
      const sent = (server: "hub" | "storage") =>
        new Set(
          test.hub.seen.filter((request) => request.server === server).map(({ headers }) => headers.authorization),
        );
      assertEquals([[...sent("hub")], [...sent("storage")]], [["Bearer any-form"], [undefined]]);
    }));

  it("refuses names that lead out of the folder, and listings that make no sense", () =>
    inFolder(async (dir) => {
      for (const path of [
        "../x.safetensors",
        "/etc/x",
        "a/../../b",
        "a//b",
        "a\\b",
        "C:x",
        "./a",
        "a\u0007",
        ".git/config",
      ]) {
        test.hub.listed = (entry) => (entry.path === "README.md" ? { ...entry, path } : entry);
        await test.assertFails(test.options(dir), "is no safe file name");
      }
      const strange = [{ path: "config.json" }, { oid: "no" }, { size: -1 }, { path: 7 }, { lfs: {} }];
      for (const change of strange) {
        test.hub.listed = (entry) => (entry.path === "README.md" ? { ...entry, ...change } : entry);
        await test.assertFails(test.options(dir), "makes no sense");
      }
      test.hub.intercept = (_, response) => {
        response.end("<html>");
        return true;
      };
      await test.assertFails(test.options(dir), "it is not a hub's");
      assertEquals(readdirSync(dir), []);
    }));

  it("refuses redirects without end, and to what is no http address", () =>
    inFolder(async (dir) => {
      for (const [location, part] of [
        ["/x", "more than 8 redirects"],
        ["file:///etc/passwd", "no http address"],
      ] as const) {
        test.hub.intercept = (_, response) => {
          response.writeHead(302, { location }).end();
          return true;
        };
        await test.assertFails(test.options(dir), part);
      }
    }));

  it("says when the disk is too small or full", () =>
    inFolder(async (dir) => {
      await test.assertFails(
        test.options(dir, { freeBytes: () => 1000 }),
        "3.00 MB are needed, the disk has 1.00 KB free",
      );
      assertEquals(readdirSync(dir), []);
      const { files } = await planPull(test.options(dir));
      const staging = Staging.open(join(dir, "m"));
      const { partialPath } = staging.placesOf(files.find(({ path }) => path === "model.safetensors")!);
      staging[Symbol.dispose]();
      mkdirSync(dirname(partialPath), { recursive: true });
      symlinkSync("/dev/full", partialPath);
      await test.assertFails(test.options(dir), "the disk is full");
    }));

  it("refuses names of repositories and revisions that would change the address", () =>
    inFolder(async (dir) => {
      for (const repository of ["m", "o/m/x", "../m", "o/..", "o/m?x", "o/m#", ""])
        await test.assertFails(test.options(dir, { repository }), "expected ORG/NAME");
      for (const revision of ["../../x", "a b", "x?y"])
        await test.assertFails(test.options(dir, { revision }), "expected a branch");
      assertEquals(test.hub.seen.length, 0);
    }));
});
