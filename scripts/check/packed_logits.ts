/**
 * Does a packed folder mean to others what it means to apiq? Its logits, computed by numpy's unpacking with transformers and peft,
 * against those of the engine with --activations f32.
 *
 *   bun scripts/check/packed_logits.ts DIR... [--tokens N] [--python PROGRAM] [--json]
 *
 * Exits with 0 where all agree or Python lacks the wheels (one line says so), with 1 where a logit is off by more than 1e-3. Models
 * that were ruined by a bad calibration magnify rounding: where transformers' own float32 is further than 1e-3 from its float64,
 * the verdict is "rounding" as long as the engine is no further from it, and names both figures.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { loadModel } from "../../runtime/engine/loaded_model.ts";
import { readJsonObject } from "../../runtime/formats/json.ts";
import { parseConfig } from "../../runtime/models/config.ts";
import { hasTokenizer, openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { compareLogits, type LogitDifference, tokenIds } from "./logits.ts";
import { findPython, PythonMissing, runPython } from "./python.ts";

const SCRIPT = join(import.meta.dirname, "packed_logits.py");
const MODULES = ["numpy", "torch", "safetensors", "transformers", "peft"];
/** Largest difference of a logit. The engine computes in float32. */
const TOLERANCE = 1e-3;

interface PythonAnswer {
  /** How many matrices of each kind of storage numpy unpacked. */
  readonly modules: Record<string, number>;
  readonly lora: boolean;
  readonly nll: number;
  /** Largest difference between transformers' own logits in float32 and float64: what rounding makes of this model. */
  readonly noise: number;
}

interface Check extends LogitDifference {
  readonly model: string;
  readonly reference: PythonAnswer;
  readonly verdict: "agrees" | "rounding" | "DIFFERS";
}

/** float32 [ids, vocabulary] of the engine. */
function engineLogits(model: string, ids: readonly number[]): Float32Array {
  using loaded = loadModel({
    ...{ model, device: "auto", threads: 0, activations: "f32", adapters: {} },
    ...{ contextLength: ids.length, maxSequences: 1, kvMemory: Number.POSITIVE_INFINITY },
  });
  const { vocabSize } = loaded.config;
  const all = new Float32Array(ids.length * vocabSize);
  loaded.runner.scoreText(ids, -1, (logits, first, rows) => {
    logits.buffer.download(all.subarray(first * vocabSize, (first + rows) * vocabSize), logits.offset);
  });
  return all;
}

/** The beginning of this project's README, or random ids for a folder without a tokenizer. */
function idsFor(model: string, tokens: number, vocabSize: number): number[] {
  if (!hasTokenizer(model)) return tokenIds(tokens, vocabSize);
  const text = readFileSync(join(import.meta.dirname, "..", "..", "README.md"), "utf8");
  return openTokenizer(model).encode(text).slice(0, tokens);
}

function check(model: string, tokens: number, python: string): Check {
  const { vocabSize } = parseConfig(readJsonObject(join(model, "config.json")), join(model, "config.json"));
  const ids = idsFor(model, tokens, vocabSize);
  const folder = mkdtempSync(join(tmpdir(), "apiq-check-"));
  try {
    const file = join(folder, "logits.f32");
    const reference = runPython<PythonAnswer>(python, SCRIPT, { model, ids, logits: file });
    const expected = new Float32Array(new Uint8Array(readFileSync(file)).buffer);
    const difference = compareLogits(engineLogits(model, ids), expected, vocabSize);
    return { model, reference, ...difference, verdict: verdictOn(difference.largest, reference.noise) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function verdictOn(largest: number, noise: number): Check["verdict"] {
  if (largest <= TOLERANCE) return "agrees";
  return largest <= noise ? "rounding" : "DIFFERS";
}

function line({ model, reference, largest, sameTop, rows, verdict }: Check): string {
  const kinds = Object.entries(reference.modules).map(([kind, count]) => `${count} ${kind}`);
  const parts = [...(kinds.length > 0 ? kinds : ["dense"]), ...(reference.lora ? ["LoRA"] : [])].join(", ");
  const off = `logits off by at most ${largest.toExponential(1)} (float32 transformers: ${reference.noise.toExponential(1)})`;
  return `${verdict.padEnd(8)}  ${model} (${parts}): ${off}, ${sameTop} of ${rows} top tokens equal`;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: "string", default: "64" },
    python: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const tokens = Number(values.tokens);
if (positionals.length === 0 || !Number.isInteger(tokens) || tokens < 2) {
  console.error(
    "Usage: bun scripts/check/packed_logits.ts DIR... [--tokens N, at least 2] [--python PROGRAM] [--json]",
  );
  process.exit(2);
}
try {
  const python = findPython(values.python, MODULES);
  const checks = positionals.map((model) => check(model, tokens, python));
  console.log(values.json ? JSON.stringify(checks) : checks.map(line).join("\n"));
  if (checks.some(({ verdict }) => verdict === "DIFFERS")) process.exitCode = 1;
} catch (error) {
  if (!(error instanceof PythonMissing)) throw error;
  console.log(`skipped: ${error.message}; needed: ${MODULES.join(", ")} (name another Python with APIQ_PYTHON)`);
}
