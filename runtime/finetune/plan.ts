/** --dry-run: what a run would take. Memory and time are measured on one batch of the first step; nothing is written. */
import { Context } from "../../ffi/mod.ts";
import { residentBytes } from "../memory.ts";
import { plannedModel } from "../plan/planned_model.ts";
import { trainingMemory } from "../plan/training_memory.ts";
import { freeBytes } from "../quantize/disk_space.ts";
import { peakBytes } from "../quantize/peak_memory.ts";
import type { MemoryPart } from "../quantize/plan.ts";
import { planPacking } from "./data/mod.ts";
import type { FinetuneOptions } from "./options.ts";
import { type Prepared, prepare, taughtExamples } from "./prepare.ts";
import { batchesOf, tokensOf } from "./steps.ts";
import { teacherBytes } from "./teacher_cache.ts";
import { diskBytes, objectiveOf, Training } from "./training.ts";

export interface FinetunePlan {
  readonly files: readonly { readonly file: string; readonly format: string; readonly examples: number }[];
  readonly examples: number;
  readonly validationExamples: number;
  /** Of all training examples. */
  readonly tokens: number;
  readonly steps: number;
  readonly epochs: number;
  readonly warmupSteps: number;
  /** Rows that go through together, and tokens of each. */
  readonly batch: { readonly sequences: number; readonly length: number };
  readonly start: string;
  readonly replaces: boolean;
  readonly parameters: number;
  /** Counted; the sum may differ a little from what was measured. */
  readonly memory: readonly MemoryPart[];
  /** The most that the process held. */
  readonly memoryBytes: number;
  /** State, best values, teacher's tokens and result, where `out` will be. */
  readonly diskBytes: number;
  /** null where the system does not tell. */
  readonly diskFreeBytes: number | null;
  readonly secondsPerStep: number;
  readonly seconds: number;
  readonly notes: readonly string[];
}

const noPause = (): Promise<void> => Promise.resolve();

/** Checks everything that a run checks. */
export async function planFinetuning(options: FinetuneOptions): Promise<FinetunePlan> {
  const prepared = prepare(options);
  const { data, training: examples, validation, steps, schedule, shape, start, evalEvery } = prepared;
  const programBytes = residentBytes();
  using context = Context.open({ threads: options.threads });
  const memory = memoryParts(context, options, prepared, programBytes);
  using training = new Training(context, prepared, options);
  const [first] = batchesOf(steps.examples(0), shape);
  const began = performance.now();
  await training.step.run([first!], 0, noPause);
  const secondsPerBatch = (performance.now() - began) / 1000;
  const batches = batchesPerEpoch(prepared) / steps.perEpoch;
  const secondsPerStep = secondsPerBatch * batches;
  // A forward pass is about a third of forward, recomputation and backward.
  const validationBatches = validation.length === 0 ? 0 : batchesOf(validation, shape).length;
  const validations = 1 + Math.ceil(steps.total / evalEvery);
  const objective = objectiveOf(options.settings);
  const teacher = objective.kind === "sft" ? 0 : teacherBytes(taughtExamples(prepared), objective);
  const needed = diskBytes(training) + teacher;
  const diskFreeBytes = freeBytes(options.out) ?? null;
  const short = diskFreeBytes !== null && diskFreeBytes < needed;
  return {
    files: data.map(({ file, format, examples: { length } }) => ({ file, format, examples: length })),
    examples: examples.length,
    validationExamples: validation.length,
    tokens: tokensOf(examples),
    steps: steps.total,
    epochs: steps.epochs,
    warmupSteps: schedule.warmupSteps,
    batch: shape,
    start: start.name,
    replaces: start.replaces,
    parameters: training.parameters,
    memory,
    memoryBytes: peakBytes(context),
    diskBytes: needed,
    diskFreeBytes,
    secondsPerStep,
    seconds: secondsPerStep * steps.total + (validations * validationBatches * secondsPerBatch) / 3,
    notes: [...prepared.notes, ...(short ? ["The disk has too little room for the run."] : [])],
  };
}

function memoryParts(
  context: Context,
  { model, settings, recompute }: FinetuneOptions,
  { start, shape }: Prepared,
  programBytes: number,
): MemoryPart[] {
  const { dora } = start.lora;
  const rank = start.name === "init" ? null : start.lora.rank;
  const training = {
    ...{ rank, dora, below: start.below !== null, targets: settings.targets, ...shape, recompute },
    ...{ momentBits: settings.optimizerBits, dropout: settings.dropout > 0 },
    ...(settings.trainScales && { alongside: settings.trainWeights ? ("weights" as const) : ("scales" as const) }),
  };
  return trainingMemory(plannedModel(context, model, null), training, programBytes);
}

/** As the first epoch packs its examples. */
function batchesPerEpoch({ steps, shape }: Prepared): number {
  let batches = 0;
  for (let step = 0; step < steps.perEpoch; step++) {
    batches += Math.ceil(planPacking(steps.examples(step), shape.length).length / shape.sequences);
  }
  return batches;
}
