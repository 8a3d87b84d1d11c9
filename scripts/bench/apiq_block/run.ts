/**
 * Times ApiQ-bw on one decoder block in apiq and in PyTorch, in turn on the same machine, and prints how many times as long PyTorch
 * takes. Without the Python wheels it says so in one line and times nothing.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { basename, join, resolve } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { readJsonObject } from "../../../runtime/formats/json.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { tokenIds } from "../../check/logits.ts";
import { findPython, PythonMissing, runPython } from "../../check/python.ts";
import { randomBlockModel, SHAPE } from "./model.ts";
import { type BlockReport, type BlockRound, compareBlocks, renderBlocks } from "./report.ts";
import type { BlockAnswer, BlockTask } from "./task.ts";

const TORCH_SCRIPT = join(import.meta.dirname, "torch_block.py");
const APIQ_SCRIPT = join(import.meta.dirname, "apiq_block.ts");
const MODULES = ["torch", "transformers", "safetensors"];
/** What the issue of quality measures at: 64 samples of 512 tokens, 8 epochs, augmented loss. */
const BUDGET = { samples: 64, epochs: 8 };

const HELP = `Usage: bun scripts/bench/apiq_block/run.ts [options]

Times ApiQ-bw (LoRA and learned clipping trained together) on one decoder block, in apiq and in PyTorch with transformers' own
decoder layer and a compiled fake-quantizer, in turn.

  --model DIR      Llama in a Hugging Face folder (default: one block of ${SHAPE}'s shape, random weights)
  --layer N        which block (default: 0)
  --bits N         2, 3 or 4 (default: 2)
  --rank N         of the LoRA (default: 64)
  --length N       tokens of a sample (default: 512)
  --threads N      of either side (default: all cores)
  --warmup N       steps that are not timed (default: 4)
  --steps N        timed steps (default: 24)
  --rounds N       runs of each side (default: 3)
  --no-aug-loss    without the second target
  --python PROGRAM a Python with ${MODULES.join(", ")} (default: APIQ_PYTHON, or python3)
  --json FILE      also write everything measured, as JSON
  --help           show this text`;

/** A mistake on the command line. */
class UsageError extends Error {}

const FLAGS = {
  model: { type: "string" },
  layer: { type: "string", default: "0" },
  bits: { type: "string", default: "2" },
  rank: { type: "string", default: "64" },
  length: { type: "string", default: "512" },
  threads: { type: "string", default: String(availableParallelism()) },
  warmup: { type: "string", default: "4" },
  steps: { type: "string", default: "24" },
  rounds: { type: "string", default: "3" },
  "no-aug-loss": { type: "boolean", default: false },
  python: { type: "string" },
  json: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

function parseFlags() {
  try {
    return parseArgs({ options: FLAGS }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function integer(text: string, flag: string, min: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min)) throw new UsageError(`Cannot read ${flag}: received ${text}, expected an integer from ${min}`);
  return value;
}

function bitsOf(text: string): BlockTask["bits"] {
  const bits = ([2, 3, 4] as const).find((bits) => String(bits) === text);
  if (bits === undefined) throw new UsageError(`Cannot read --bits: received ${text}, expected 2, 3 or 4`);
  return bits;
}

/** A process of its own, as PyTorch has one. */
function runApiq(task: BlockTask): BlockAnswer {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["run", APIQ_SCRIPT], {
    encoding: "utf8",
    input: JSON.stringify(task),
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`Cannot time apiq: ${stderr.trim().split("\n").slice(-4).join("\n")}`);
  return JSON.parse(stdout) as BlockAnswer;
}

interface TorchAnswer extends Omit<BlockAnswer, "loss" | "about"> {
  readonly losses: readonly number[];
  readonly torch: string;
  readonly transformers: string;
}

function runTorch(python: string, task: BlockTask): BlockAnswer {
  const { losses, torch, transformers, ...times } = runPython<TorchAnswer>(python, TORCH_SCRIPT, task);
  const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
  return { ...times, loss, about: `PyTorch ${torch}, transformers ${transformers}` };
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

async function main(): Promise<void> {
  const flags = parseFlags();
  if (flags.help) {
    console.log(HELP);
    return;
  }
  const number = (flag: "layer" | "rank" | "length" | "threads" | "warmup" | "steps" | "rounds", min: number) =>
    integer(flags[flag], `--${flag}`, min);
  const [warmup, steps, length, rounds] = [
    number("warmup", 1),
    number("steps", 1),
    number("length", 2),
    number("rounds", 1),
  ];
  const settings = {
    ...{ layer: number("layer", 0), bits: bitsOf(flags.bits), group: 64 as const, rank: number("rank", 1), alpha: 16 },
    ...{ loraLearningRate: 5e-4, clippingLearningRate: 5e-3, weightDecay: 0.1, augLoss: !flags["no-aug-loss"] },
    ...{ threads: number("threads", 1), warmup, steps },
  };
  const python = findPython(flags.python, MODULES);
  const model = flags.model === undefined ? await randomBlockModel() : resolve(flags.model);
  const { vocabSize } = parseConfig(readJsonObject(join(model, "config.json")), model);
  const ids = tokenIds((warmup + steps) * length, vocabSize);
  const windows = Array.from({ length: warmup + steps }, (_, i) => ids.slice(i * length, (i + 1) * length));
  const task: BlockTask = { model, ...settings, ids: windows };

  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: availableParallelism(), loadAverage: loadavg()[0] ?? 0 };
  const measured: BlockRound[] = [];
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}: apiq`);
    const apiq = runApiq(task);
    progress(`round ${round} of ${rounds}: PyTorch`);
    measured.push({ apiq, torch: runTorch(python, task) });
  }
  progress("");
  const report: BlockReport = {
    ...{ date: new Date().toISOString(), machine, threads: settings.threads, length, rank: settings.rank },
    model: flags.model === undefined ? `${SHAPE}'s shape, random weights` : basename(model),
    ...{ bits: settings.bits, augLoss: settings.augLoss, budget: BUDGET, steps, rounds: measured },
  };
  console.log(renderBlocks(report));
  if (flags.json !== undefined) {
    writeFileSync(flags.json, `${JSON.stringify({ ...compareBlocks(report), ...report }, null, 2)}\n`);
  }
}

try {
  await main();
} catch (error) {
  progress("");
  if (error instanceof PythonMissing) {
    console.log(
      `skipped: ${error.message}; needed: ${MODULES.join(", ")} (name another Python with --python or APIQ_PYTHON)`,
    );
  } else if (error instanceof UsageError) {
    console.error(`${error.message}\nTry bun scripts/bench/apiq_block/run.ts --help`);
    process.exitCode = 2;
  } else {
    throw error;
  }
}
