import { existsSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel } from "../../../tests/fixtures/tiny_model.ts";
import { openAdapter, openCheckpoint } from "../../formats/mod.ts";
import { inFolder } from "../../formats/test_files.ts";
import { SHAPES, writeTestAdapter } from "../../merge/test_adapters.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { mergeCommand } from "./merge.ts";

async function apiq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string): void {
      printed[name] += text;
    },
  });
  const program = { name: "apiq", summary: "", version: "0", commands: [mergeCommand] };
  const out = new Output(sink("stdout"), sink("stderr"));
  const code = await runProgram(program, ["merge", ...args], out, new AbortController().signal);
  return { code, ...printed };
}

const SHAPE = { rank: 4, alpha: 8, parts: Object.keys(SHAPES) };

describe("apiq merge", () => {
  it("joins, cuts, exports, and refuses one adapter alone", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ loraRank: 2 });
      const one = await writeTestAdapter(join(dir, "one"), { ...SHAPE, seed: 1 });
      const two = await writeTestAdapter(join(dir, "two"), { ...SHAPE, seed: 2 });
      const both = [tiny.dir, "--adapter", one, "--adapter", two];
      const out = (name: string): string => join(dir, name);

      const joined = await apiq(...both, "--weights", "1,0.5", "--out", out("joined"));
      assertEquals([joined.code, joined.stderr], [0, ""]);
      assertStringIncludes(joined.stdout, "rank 8 on 6 linears");
      assertStringIncludes(joined.stdout, "exact");
      assertEquals(openAdapter(out("joined")).targets.size, 6);

      const cut = await apiq(...both, "--method", "svd", "--rank", "3", "--out", out("cut"), "--json");
      const { rank, kept } = JSON.parse(cut.stdout);
      assertEquals([cut.code, rank], [0, 3]);
      assert(kept > 0 && kept < 1);

      const dense = await apiq(tiny.dir, "--adapter", one, "--export-fp16", "--out", out("dense"));
      assertEquals(dense.code, 0);
      assertStringIncludes(dense.stdout, "in float16");
      assertEquals(openCheckpoint(out("dense")).quantization, undefined);

      const alone = await apiq(tiny.dir, "--adapter", one, "--out", out("none"));
      assertEquals([alone.code, existsSync(out("none"))], [1, false]);
      assertStringIncludes(alone.stderr, "--export-fp16");
      const again = await apiq(...both, "--out", out("joined"));
      assertEquals(again.code, 1);
      assertStringIncludes(again.stderr, "it exists");
    }));

  it("refuses flags that do not go together", async () => {
    const some = ["model", "--adapter", "a", "--out", "out"];
    for (const [args, reason] of [
      [["model", "--out", "out"], "Missing --adapter"],
      [[...some, "--weights", "1,2"], "received 2 numbers, expected 1"],
      [[...some, "--weights", "one"], 'received "one"'],
      [[...some, "--weights", ""], 'received ""'],
      [[...some, "--method", "svd"], "go together"],
      [[...some, "--rank", "4"], "go together"],
      [[...some, "--export-fp16", "--method", "svd", "--rank", "4"], "with --export-fp16"],
      [[...some, "--dtype", "bfloat16"], "--export-fp16"],
    ] as const) {
      const { code, stderr } = await apiq(...args);
      assertEquals(code, 2, args.join(" "));
      assertStringIncludes(stderr, reason);
    }
  });
});
