import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel } from "../../../tests/fixtures/tiny_model.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { planCommand } from "./plan.ts";

async function apiq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string): void {
      printed[name] += text;
    },
  });
  const program = { name: "apiq", summary: "", version: "0", commands: [planCommand] };
  const out = new Output(sink("stdout"), sink("stderr"));
  const code = await runProgram(program, ["plan", ...args], out, new AbortController().signal);
  return { code, ...printed };
}

describe("apiq plan", () => {
  it("says part by part whether a shape fits", async () => {
    const { code, stdout } = await apiq(
      "--shape",
      "llama-2-7b",
      "--rank",
      "16",
      "--seq",
      "256",
      "--device-memory",
      "8G",
    );
    assertEquals(code, 0);
    for (const part of [
      "packed weights",
      "optimizer state",
      "KV cache",
      "224 linears",
      "1 x 256 tokens",
      "fits into 8.59 GB",
    ]) {
      assertStringIncludes(stdout, part);
    }
  });

  it("ends with 1 and tells what would help where training does not fit", async () => {
    const args = ["--shape", "llama-2-7b", "--no-recompute", "--device-memory", "4G"];
    const { code, stdout } = await apiq(...args);
    assertEquals(code, 1);
    for (const part of ["does not fit into 4.29 GB", "with --recompute", "with --optimizer-bits 8"]) {
      assertStringIncludes(stdout, part);
    }
    const { code: jsonCode, stdout: json } = await apiq(...args, "--json");
    const { training, remedies } = JSON.parse(json);
    assertEquals([jsonCode, training.fits], [1, false]);
    const all = training.parts.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0);
    assertEquals(all, training.bytes);
    assert(remedies.length > 2);
  });

  it("plans for a folder as it lies, and with a LoRA from zero", async () => {
    using tiny = await createTinyModel({ loraRank: 4 });
    const planned = async (...args: string[]) =>
      JSON.parse((await apiq("--shape", tiny.dir, "--json", ...args)).stdout);
    const [own, other] = [await planned(), await planned("--rank", "4", "--targets", "attention")];
    assertEquals([own.training.linears, other.training.linears], [14, 8]);
    const part = (plan: typeof own, name: string) =>
      plan.training.parts.find((each: { part: string }) => each.part === name)?.bytes;
    assertEquals(part(other, "frozen LoRA"), part(own, "LoRA"));
  });

  it("refuses what it cannot use", async () => {
    for (const [args, reason] of [
      [["--shape", "llama-2-7b", "--bits", "5"], "--bits: received 5, expected 2, 3, 4, 8"],
      [["--shape", "llama-2-7b", "--optimizer-bits", "16"], "--optimizer-bits: received 16, expected 32, 8"],
      [["--seq", "16"], "Missing --shape"],
    ] as const) {
      const { code, stderr } = await apiq(...args);
      assertEquals(code, 2);
      assertStringIncludes(stderr, reason);
    }
    const { code, stderr } = await apiq("--shape", "llama-2-7b", "--targets", "nothing");
    assertEquals(code, 1);
    assertStringIncludes(stderr, "q_proj");
  });
});
