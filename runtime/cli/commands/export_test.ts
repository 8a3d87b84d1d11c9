import { existsSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel } from "../../../tests/fixtures/tiny_model.ts";
import { inFolder } from "../../formats/test_files.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { exportCommand } from "./export.ts";

async function apiq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string): void {
      printed[name] += text;
    },
  });
  const program = { name: "apiq", summary: "", version: "0", commands: [exportCommand] };
  const out = new Output(sink("stdout"), sink("stderr"));
  const code = await runProgram(program, args, out, new AbortController().signal);
  return { code, ...printed };
}

describe("apiq export", () => {
  it("plans, writes, and refuses to overwrite", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ loraRank: 2 });
      const out = join(dir, "plain");
      const planned = await apiq("export", tiny.dir, "--out", out, "--dry-run");
      assertEquals([planned.code, existsSync(out)], [0, false]);
      assertStringIncludes(planned.stdout, "Would write");
      const written = await apiq("export", tiny.dir, "--out", out, "--json", "--dtype", "bfloat16");
      const { dtype, unpacked, calibratedLora } = JSON.parse(written.stdout);
      assertEquals([written.code, dtype, unpacked, calibratedLora], [0, "bfloat16", 14, "copied"]);
      const again = await apiq("export", tiny.dir, "--out", out);
      assertEquals(again.code, 1);
      assertStringIncludes(again.stderr, "--force replaces it");
      const merged = await apiq("export", tiny.dir, "--out", out, "--force", "--merge-lora");
      assertEquals(merged.code, 0);
      assertStringIncludes(merged.stdout, "its calibrated LoRA merged");
      assert(!existsSync(join(out, "apiq_init")));
      const wrong = await apiq("export", tiny.dir, "--out", join(dir, "b"), "--dtype", "int8");
      assertEquals(wrong.code, 2);
    }));
});
