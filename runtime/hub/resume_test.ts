import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { pull } from "./pull.ts";
import { Staging } from "./staging.ts";
import type { Intercept } from "./test_hub.ts";
import { cutAt, FILES, onStorage, PullTest, WEIGHTS } from "./test_pull.ts";

const test = PullTest.use();

describe("pull of an interrupted file", () => {
  it("goes on after the connection is cut midway", () =>
    inFolder(async (dir) => {
      test.hub.intercept = onStorage(cutAt(1_000_000), cutAt(2_500_000));
      await pull(test.options(dir));
      const [first, second, third, ...more] = test.starts();
      assertEquals([first, more], [0, []]);
      assert(0 < second! && second! <= 1_000_000 && second! < third! && third! <= 2_500_000, `${test.starts()}`);
      assertEquals(test.pauses.length, 2);
      assert(readFileSync(join(dir, "m", "model.safetensors")).equals(WEIGHTS));
    }));

  it("goes on in the next process, with what was verified left as it is", () =>
    inFolder(async (dir) => {
      const left = await test.pullInterrupted(dir);
      assertEquals(readdirSync(dir), [".m.pull"]);
      const totals: number[] = [];
      await pull(test.options(dir, { onProgress: ({ total }) => totals.push(total) }));
      assertEquals(test.starts(), [left]);
      assert(/^"\w+"$/.test(String(test.hub.downloads("storage")[0]!.headers["if-range"])));
      // The other files are a few dozen bytes.
      assert(totals[0]! < WEIGHTS.length - left + 100, `${totals[0]}`);
      assert(readFileSync(join(dir, "m", "model.safetensors")).equals(WEIGHTS));
    }));

  it("starts again when the server's ETag has changed", () =>
    inFolder(async (dir) => {
      const left = await test.pullInterrupted(dir);
      // Knows Range but not If-Range, and the stored object is another one.
      test.hub.intercept = onStorage(({ headers }, response) => {
        const from = Number(/\d+/.exec(headers.range ?? "")?.[0]);
        response.writeHead(206, {
          etag: '"another"',
          "content-range": `bytes ${from}-${WEIGHTS.length - 1}/${WEIGHTS.length}`,
        });
        response.end(WEIGHTS.subarray(from));
        return true;
      });
      await pull(test.options(dir));
      assertEquals(test.starts(), [left, 0]);
      assert(readFileSync(join(dir, "m", "model.safetensors")).equals(WEIGHTS));
    }));

  it("starts again when the server ignores Range, or refuses it", () =>
    inFolder(async (dir) => {
      await test.pullInterrupted(dir);
      const ignoring: Intercept = (_, response) => {
        response.end(WEIGHTS);
        return true;
      };
      test.hub.intercept = onStorage(ignoring);
      await pull(test.options(dir));
      assertEquals(test.hub.downloads("storage").length, 1);

      const leftAgain = await test.pullInterrupted(join(dir, "again"));
      const refusing: Intercept = (_, response) => {
        response.writeHead(416).end();
        return true;
      };
      test.hub.intercept = onStorage(refusing);
      await pull(test.options(join(dir, "again")));
      assertEquals(test.starts(), [leftAgain, 0]);
    }));

  it("does not mix in another revision's bytes, or those that were changed on the disk", () =>
    inFolder(async (dir) => {
      await test.pullInterrupted(dir);
      const other = WEIGHTS.map((byte) => byte ^ 1);
      test.hub.files.set("model.safetensors", other);
      writeFileSync(join(dir, ".m.pull", "files", "config.json"), '{"model_type":"bogus"}');
      await pull(test.options(dir));
      assertEquals(test.starts(), [0]);
      assert(readFileSync(join(dir, "m", "model.safetensors")).equals(other));
      assertEquals(readFileSync(join(dir, "m", "config.json"), "utf8"), FILES["config.json"]);
      assertEquals(readdirSync(dir), ["m"]);
    }));

  it("is left to the process that works on it", () =>
    inFolder(async (dir) => {
      using _other = Staging.open(join(dir, "m"));
      await test.assertFails(test.options(dir), "is doing so");
    }));
});
