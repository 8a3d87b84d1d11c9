import { readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { inFolder } from "../../formats/test_files.ts";
import { sendContent, sendError, TestHub } from "../../hub/test_hub.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { pullCommand } from "./pull.ts";

const VARIABLES = ["HF_ENDPOINT", "HF_TOKEN"] as const;
const before = VARIABLES.map((name) => process.env[name]);
let hub: TestHub;

beforeEach(async () => {
  hub = await TestHub.start({ "config.json": "{}", "model.safetensors": new Uint8Array(5000) });
  process.env.HF_ENDPOINT = hub.endpoint;
  process.env.HF_TOKEN = "hf_secret";
});
afterEach(async () => {
  VARIABLES.forEach((name, i) => {
    if (before[i] === undefined) delete process.env[name];
    else process.env[name] = before[i];
  });
  await hub.stop();
});

async function apiq(args: string[], signal = new AbortController().signal, isTTY = false) {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    isTTY,
    write(text: string): void {
      printed[name] += text;
    },
  });
  const out = new Output(sink("stdout"), sink("stderr"));
  const program = { name: "apiq", summary: "", version: "0", commands: [pullCommand] };
  const code = await runProgram(program, ["pull", ...args], out, signal);
  assert(!`${printed.stdout}${printed.stderr}`.includes("hf_secret"));
  return { code, ...printed };
}

describe("apiq pull", () => {
  it("prints what it made and the next command, and nothing else when piped", () =>
    inFolder(async (dir) => {
      const out = join(dir, "m");
      const plan = await apiq(["o/m", "--out", out, "--dry-run"]);
      assertEquals([plan.code, plan.stderr, readdirSync(dir).length], [0, "", 0]);
      assertStringIncludes(plan.stdout, " 5.00 KB  model.safetensors\n");
      const first = await apiq(["o/m", "--out", out]);
      const summary = `${out}: o/m at aaaaaaaaaaaa, 2 files, 5.00 KB`;
      assertEquals(first, { code: 0, stdout: `${summary}, verified\nNext: apiq serve --model ${out}\n`, stderr: "" });
      const again = await apiq(["o/m", "--out", out, "--json"]);
      const { wasComplete, commit, files } = JSON.parse(again.stdout);
      assertEquals([wasComplete, commit, files[0].path], [true, "a".repeat(40), "config.json"]);
    }));

  it("shows progress and speed on a terminal", () =>
    inFolder(async (dir) => {
      const { stderr } = await apiq(["o/m", "--out", join(dir, "m")], undefined, true);
      assertMatch(stderr, /pulling [\d.]+ [KM]B\/s .*5\.00 KB\/5\.00 KB/);
    }));

  it("fails with one line, and goes on after an interruption", () =>
    inFolder(async (dir) => {
      const out = join(dir, "m");
      hub.intercept = (_, response) => {
        sendError(response, 403, "GatedRepo");
        return true;
      };
      const gated = await apiq(["o/m", "--out", out]);
      assertEquals([gated.code, gated.stdout], [1, ""]);
      assertMatch(gated.stderr, /^error: Cannot pull o\/m: it is gated .*accept its licence at http.*\n$/);
      const interrupted = new AbortController();
      hub.intercept = ({ server, headers }, response) => {
        if (server === "hub") return false;
        sendContent(response, new Uint8Array(5000), headers, 4000);
        setTimeout(() => interrupted.abort(), 100);
        return true;
      };
      const cut = await apiq(["o/m", "--out", out], interrupted.signal);
      assertEquals([cut.code, cut.stderr], [130, "Interrupted: the same command goes on from here\n"]);
      hub.intercept = () => false;
      assertEquals((await apiq(["o/m", "--out", out])).code, 0);
      assertMatch(String(hub.downloads("storage").at(-1)?.headers.range), /^bytes=\d+-$/);
    }));
});
