import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../../formats/test_files.ts";
import { writeGguf } from "../../formats/test_gguf.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { importCommand } from "./import.ts";
import { inspectCommand } from "./inspect.ts";

/** Runs a command line and gives what it printed. */
async function apiq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string): void {
      printed[name] += text;
    },
  });
  const program = { name: "apiq", summary: "", version: "0", commands: [importCommand, inspectCommand] };
  const out = new Output(sink("stdout"), sink("stderr"));
  const code = await runProgram(program, args, out, new AbortController().signal);
  return { code, ...printed };
}

/** A model of an embedding [32, 64] in Q8_0. */
function makeGguf(path: string): void {
  const data = Uint8Array.from({ length: 32 * 68 }, (_, i) => (i % 34 < 2 ? 0x30 : i & 255));
  const llama = { block_count: 1, context_length: 64, embedding_length: 64, feed_forward_length: 96 };
  const heads = { "attention.head_count": 4, "attention.layer_norm_rms_epsilon": { f32: 1e-5 } };
  const fields = Object.entries({ ...llama, ...heads }).map(([key, value]) => [`llama.${key}`, value]);
  const metadata = { "general.architecture": "llama", ...Object.fromEntries(fields) };
  writeGguf(path, { metadata, tensors: [{ name: "token_embd.weight", dims: [64, 32], type: 8, data }] });
}

describe("apiq import and inspect", () => {
  it("make a folder and describe it, as text and as JSON", () =>
    inFolder(async (dir) => {
      const gguf = join(dir, "a.gguf");
      const out = join(dir, "model");
      makeGguf(gguf);
      const first = await apiq("import", gguf, "--out", out);
      assertEquals(first.code, 0);
      assertStringIncludes(first.stdout, "1 tensors (1 Q8_0)");
      assertStringIncludes(first.stderr, "There is no tokenizer");
      const again = await apiq("import", gguf, "--out", out);
      assertEquals(again.code, 1);
      assertStringIncludes(again.stderr, "--force replaces it");
      const forced = await apiq("import", gguf, "--out", out, "--force", "--json");
      assertEquals(JSON.parse(forced.stdout).types, { Q8_0: 1 });

      const text = await apiq("inspect", out, "--context", "32", "--max-sequences", "2");
      assertEquals(text.code, 0);
      assertStringIncludes(text.stdout, "8 bits, groups of 32, integer zero");
      assertStringIncludes(text.stdout, "2 x 32 tokens");
      const json = JSON.parse((await apiq("inspect", out, "--json")).stdout);
      assertEquals(json.parts.embedding.parameters, 2048);
      assertEquals(json.fingerprint, JSON.parse(readFileSync(join(out, "config.json"), "utf8")).apiq_fingerprint);
    }));

  it("fail with one line that says why", () =>
    inFolder(async (dir) => {
      const bad = join(dir, "a.gguf");
      writeFileSync(bad, "nothing");
      const { code, stderr, stdout } = await apiq("import", bad, "--out", join(dir, "model"));
      assertEquals([code, stdout], [1, ""]);
      assert(stderr.startsWith(`error: Cannot read ${bad}: not a GGUF file`), stderr);
      assertEquals((await apiq("import", bad)).code, 2);
      assertEquals((await apiq("inspect", dir)).code, 1);
    }));
});
