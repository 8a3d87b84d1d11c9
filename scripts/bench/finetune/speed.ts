/**
 * Times a training step of `apiq finetune` on a packed model, and of peft on the same model dequantised to float32, in turn on the
 * same machine. Without the Python wheels it says so in one line and times nothing.
 */
import { existsSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { exportModel } from "../../../runtime/export/export_model.ts";
import { openCheckpoint } from "../../../runtime/formats/mod.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { tokenIds } from "../../check/logits.ts";
import { findPython, PythonMissing, runPython } from "../../check/python.ts";
import { integer, parseFlags, progress, runMain, runScript, UsageError } from "./flags.ts";
import { compareSides, renderSpeeds, type SpeedReport, type SpeedRound } from "./speed_report.ts";
import type { SpeedAnswer, SpeedTask } from "./speed_task.ts";

const TORCH_SCRIPT = join(import.meta.dirname, "speed_torch.py");
const APIQ_SCRIPT = join(import.meta.dirname, "speed_apiq.ts");
const MODULES = ["torch", "transformers", "peft"];

const HELP = `Usage: bun scripts/bench/finetune/speed.ts --model DIR [options]

Trains the calibrated LoRA of a packed model for some steps, in apiq with and without recomputation and with peft on the
dequantised model in float32, in turn. All start from the same matrices and see the same tokens, and their losses are compared.

  --model DIR      packed model with a calibrated LoRA
  --length N       tokens of a step (default: 512)
  --threads N      of each side (default: all cores)
  --warmup N       steps that are not timed (default: 2)
  --steps N        timed steps (default: 6)
  --rounds N       runs of each side (default: 3)
  --bf16           run apiq in bfloat16 too (apiq finetune --compute bf16)
  --checkpointing  let PyTorch recompute too (gradient checkpointing): slower, less memory
  --python PROGRAM a Python with ${MODULES.join(", ")} (default: APIQ_PYTHON, or python3)
  --json FILE      also write everything measured, as JSON
  --help           show this text`;

const FLAGS = {
  model: { type: "string" },
  length: { type: "string", default: "512" },
  threads: { type: "string", default: String(availableParallelism()) },
  warmup: { type: "string", default: "2" },
  steps: { type: "string", default: "6" },
  rounds: { type: "string", default: "3" },
  bf16: { type: "boolean", default: false },
  checkpointing: { type: "boolean", default: false },
  python: { type: "string" },
  json: { type: "string" },
} as const;

/** The model with its base in float32, made once in the system's place for temporary files. */
async function dequantised(packed: string): Promise<string> {
  const { fingerprint, initAdapter } = openCheckpoint(packed);
  if (!initAdapter) throw new UsageError(`Cannot train ${packed}: it has no calibrated LoRA`);
  const out = join(tmpdir(), "apiq-bench", `dense-${fingerprint.slice(0, 16)}`);
  if (!existsSync(out)) await exportModel({ model: packed, out, dtype: "float32" });
  return out;
}

async function main(): Promise<void> {
  const flags = parseFlags(FLAGS);
  if (flags.model === undefined) throw new UsageError("Missing --model DIR");
  const [length, threads] = [integer(flags.length, "--length", 2), integer(flags.threads, "--threads", 1)];
  const [warmup, steps] = [integer(flags.warmup, "--warmup", 0), integer(flags.steps, "--steps", 1)];
  const rounds = integer(flags.rounds, "--rounds", 1);
  const packed = resolve(flags.model);
  const { vocabSize } = parseConfig(openCheckpoint(packed).config, packed);
  let python: string;
  try {
    python = findPython(flags.python, MODULES);
  } catch (error) {
    if (!(error instanceof PythonMissing)) throw error;
    console.log(`skipped: ${error.message}; needed: ${MODULES.join(", ")} (name another with --python or APIQ_PYTHON)`);
    return;
  }
  const all = tokenIds((warmup + steps) * length, vocabSize);
  const ids = Array.from({ length: warmup + steps }, (_, i) => all.slice(i * length, (i + 1) * length));
  const dense = await dequantised(packed);
  const task = { packed, dense, learningRate: 1e-4, threads, warmup, steps, ids };
  const apiq = (compute: SpeedTask["compute"], recompute: boolean) =>
    runScript<SpeedAnswer>(APIQ_SCRIPT, { ...task, compute, recompute } satisfies SpeedTask);
  const torch = { ...task, compute: "f32", recompute: flags.checkpointing } satisfies SpeedTask;
  const sides: readonly (readonly [string, () => SpeedAnswer])[] = [
    ...(flags.bf16 ? (["f32", "bf16"] as const) : (["f32"] as const)).flatMap((compute) =>
      [true, false].map((recompute) => {
        const name = `apiq in ${compute}${recompute ? "" : " without recomputing"}`;
        return [name, () => apiq(compute, recompute)] as const;
      }),
    ),
    ["peft", () => runPython(python, TORCH_SCRIPT, torch)],
  ];
  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: availableParallelism(), loadAverage: loadavg()[0] ?? 0 };
  const measured: SpeedRound[] = [];
  for (let round = 1; round <= rounds; round++) {
    measured.push(
      sides.map(([name, run]) => {
        progress(`round ${round} of ${rounds}: ${name}`);
        return run();
      }),
    );
  }
  progress("");
  const report: SpeedReport = {
    ...{ date: new Date().toISOString(), machine, model: basename(packed), threads, length, steps },
    rounds: measured,
  };
  console.log(renderSpeeds(report));
  if (flags.json !== undefined) {
    writeFileSync(flags.json, `${JSON.stringify({ sides: compareSides(report), ...report }, null, 2)}\n`);
  }
}

await runMain(main, HELP);
