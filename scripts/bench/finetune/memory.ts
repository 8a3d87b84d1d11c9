/**
 * Runs training for a few steps and compares the most memory that its process held with what `apiq plan` said before: a packed
 * folder with `apiq finetune` itself, a shape with random weights through the parts that it trains with.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { formatBytes } from "../../../runtime/cli/format.ts";
import { SHAPES } from "../../../runtime/models/shapes.ts";
import type { Plan } from "../../../runtime/plan/plan.ts";
import { integer, oneOf, parseFlags, progress, runMain, runScript, UsageError } from "./flags.ts";
import type { MemoryAnswer, MemoryTask } from "./memory_task.ts";

const APIQ = join(import.meta.dirname, "../../apiq");
const PROCESS = join(import.meta.dirname, "memory_process.ts");

const HELP = `Usage: bun scripts/bench/finetune/memory.ts [options]

Trains for some steps and compares the process's peak memory with \`apiq plan\`.

  --model DIR      packed model with a calibrated LoRA, trained by \`apiq finetune\`; may be repeated
  --shape NAME     random weights of this shape; may be repeated (default: tinyllama-1.1b, where nothing is given)
  --bits N         of a shape's linears: 2, 3, 4 or 8 (default: 2)
  --rank N         of a shape's LoRA (default: 64)
  --length N       tokens of a step (default: 128)
  --steps N        (default: 2)
  --threads N      (default: all cores)
  --json FILE      also write the figures, as JSON
  --help           show this text`;

const FLAGS = {
  model: { type: "string", multiple: true, default: [] as string[] },
  shape: { type: "string", multiple: true, default: [] as string[] },
  bits: { type: "string", default: "2" },
  rank: { type: "string", default: "64" },
  length: { type: "string", default: "128" },
  steps: { type: "string", default: "2" },
  threads: { type: "string", default: String(availableParallelism()) },
  json: { type: "string" },
} as const;

interface Row {
  readonly name: string;
  readonly plannedBytes: number;
  readonly measuredBytes: number;
}

/** The JSON that a command prints. */
function apiq<T>(args: readonly string[]): T {
  const { status, stdout, stderr } = spawnSync(APIQ, args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (stdout.startsWith("{")) return JSON.parse(stdout) as T;
  throw new Error(`Cannot run apiq ${args[0]} (${status}): ${stderr.trim().split("\n").at(-1)}`);
}

const planned = (shape: string, args: readonly string[]): number =>
  apiq<Plan>(["plan", "--shape", shape, "--json", ...args]).training.bytes;

function folderRow(model: string, length: number, steps: number, threads: number): Row {
  const dir = mkdtempSync(join(tmpdir(), "apiq-memory-"));
  try {
    const data = join(dir, "data.txt");
    // More tokens than the steps take.
    writeFileSync(data, "In the beginning there were words, and words became numbers. ".repeat(length * steps));
    const run = ["--max-steps", String(steps), "--batch-size", "1", "--threads", String(threads), "--json"];
    const where = [model, "--data", data, "--out", join(dir, "out"), "--seq-len", String(length)];
    const { peakBytes } = apiq<{ peakBytes: number }>(["finetune", ...where, ...run]);
    return { name: basename(model), plannedBytes: planned(model, ["--seq", String(length)]), measuredBytes: peakBytes };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function shapeRow(task: MemoryTask): Row {
  const { model, bits, headBits, rank, length } = task;
  const args = { "--bits": bits, "--embed-bits": headBits, "--rank": rank, "--seq": length };
  const plannedBytes = planned(
    model,
    Object.entries(args).flatMap(([flag, value]) => [flag, String(value)]),
  );
  const { peakBytes } = runScript<MemoryAnswer>(PROCESS, task);
  return { name: `${model}, ${bits} bits, rank ${rank}, random weights`, plannedBytes, measuredBytes: peakBytes };
}

async function main(): Promise<void> {
  const flags = parseFlags(FLAGS);
  const [length, steps] = [integer(flags.length, "--length", 2), integer(flags.steps, "--steps", 1)];
  const [rank, threads] = [integer(flags.rank, "--rank", 1), integer(flags.threads, "--threads", 1)];
  const bits = oneOf(flags.bits, "--bits", [2, 3, 4, 8]);
  const shapes = flags.model.length + flags.shape.length === 0 ? ["tinyllama-1.1b"] : flags.shape;
  for (const shape of shapes) oneOfShapes(shape);
  const rows: Row[] = [];
  for (const model of flags.model) {
    progress(model);
    rows.push(folderRow(model, length, steps, threads));
  }
  for (const model of shapes) {
    progress(model);
    rows.push(shapeRow({ model, bits, group: 64, headBits: 8, rank, sequences: 1, length, threads, steps }));
  }
  progress("");
  for (const { name, plannedBytes, measuredBytes } of rows) {
    const off = `${(100 * (plannedBytes / measuredBytes - 1)).toFixed(1)} %`;
    console.log(
      `${name}, ${length} tokens: planned ${formatBytes(plannedBytes)}, measured ${formatBytes(measuredBytes)}, ${off}`,
    );
  }
  if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify({ length, rows }, null, 2)}\n`);
}

function oneOfShapes(name: string): void {
  if (SHAPES[name]) return;
  throw new UsageError(`Cannot read --shape: received ${name}, expected ${Object.keys(SHAPES).join(", ")}`);
}

await runMain(main, HELP);
