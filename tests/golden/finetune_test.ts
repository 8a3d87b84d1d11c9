/**
 * Twelve steps of LoRA by peft and torch (AdamW, cosine schedule with a warm-up, clipping), made again by the step that
 * `apiq finetune` takes.
 */
import { assert, assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { scheduleFactor } from "../../runtime/finetune/schedule.ts";
import { type LoraValues, TrainedAdapter } from "../../runtime/finetune/trained_adapter.ts";
import { type StepResult, TrainingStep } from "../../runtime/finetune/training_step.ts";
import { readJsonObject } from "../../runtime/formats/json.ts";
import { Checkpoint, openSafetensors } from "../../runtime/formats/mod.ts";
import { parseConfig } from "../../runtime/models/config.ts";
import { loadDecoder } from "../../runtime/models/load.ts";
import { blockLinears, type Linear } from "../../runtime/models/weights.ts";
import type { TrainableLinear } from "../../runtime/ops/training.ts";
import { ModelTrainer } from "../../runtime/training/model_trainer.ts";
import { itShared, sharedPath } from "../shared.ts";
import { readFloats, readIds } from "./load.ts";

const FOLDER = sharedPath("golden/finetune");
const RUN = `${FOLDER}/run.safetensors`;
const STEPS = 12;
const RATE = 3e-3;
const RANK = 8;
const ALPHA = 16;

const lora = (part: "start" | "grad0" | "final", module: string, half: "A" | "B"): Float32Array =>
  readFloats(RUN, `${part}.base_model.model.${module}.lora_${half}.default.weight`).values;

function relativeDistance(actual: Float32Array, expected: Float32Array): number {
  const square = (sum: number, value: number): number => sum + value * value;
  const apart = actual.map((value, i) => value - expected[i]!);
  return Math.sqrt(apart.reduce(square, 0) / expected.reduce(square, 0));
}

/** Of one linear: its LoRA, or the gradient of it. */
interface Halves {
  readonly A: Float32Array;
  readonly B: Float32Array;
}

interface Run {
  readonly steps: readonly (StepResult & { readonly rate: number })[];
  /** After the first step, whose rate is 0: the gradients that it had. */
  readonly first: ReadonlyMap<string, Halves>;
  readonly final: ReadonlyMap<string, Halves>;
}

let trained: Promise<Run> | undefined;
const run = (): Promise<Run> => {
  trained ??= train();
  return trained;
};

async function train(): Promise<Run> {
  const { tensors } = openSafetensors(RUN);
  const base = [...tensors].filter(([name]) => name.startsWith("base."));
  const json = readJsonObject(`${FOLDER}/config.json`);
  const config = parseConfig(json, FOLDER);
  const checkpoint = new Checkpoint({
    dir: FOLDER,
    config: json,
    quantization: undefined,
    tensors: new Map(base.map(([name, tensor]) => [name.slice("base.".length), tensor])),
    fingerprint: "",
    initAdapter: undefined,
  });
  using context = Context.open({ threads: 2 });
  using model = loadDecoder(context, checkpoint, config);
  const linears = model.weights.blocks.flatMap(blockLinears);
  const starts = new Map(
    linears.map((linear): [Linear, LoraValues] => {
      const [a, b] = [lora("start", linear.name, "A"), lora("start", linear.name, "B")];
      return [linear, { a, b, magnitude: null, rank: RANK, alpha: ALPHA }];
    }),
  );
  using adapter = new TrainedAdapter(context, starts, false, { learningRate: RATE, weightDecay: 0.1 });
  const trainable = new Map<Linear, TrainableLinear>(
    [...adapter.trainable].map(([linear, lora]) => [linear, { weight: null, dweight: null, lora }]),
  );
  const ids = readIds(RUN, "input_ids");
  const labels = readIds(RUN, "labels");
  const [, sequences, length] = ids.shape;
  using trainer = new ModelTrainer({ context, weights: model.weights, trainable, sequences, length });
  using step = new TrainingStep({ context, trainer, groups: [adapter.parameters], maxNorm: 1 });
  const rows = sequences * length;
  const first = new Map<string, Halves>();
  const steps: Run["steps"][number][] = [];
  for (let index = 0; index < STEPS; index++) {
    const part = (values: readonly number[]): number[] => values.slice(index * rows, (index + 1) * rows);
    // A label belongs to its own token; a target is what follows a token.
    const targets = part(labels.values).map((_, row, own) => ((row + 1) % length === 0 ? -1 : own[row + 1]!));
    const batch = { ids: Int32Array.from(part(ids.values)), targets: Int32Array.from(targets) };
    const factor = scheduleFactor({ name: "cosine", warmupSteps: 2, steps: STEPS }, index);
    const result = await step.run([batch], factor, () => Promise.resolve());
    if (index === 0) {
      for (const [linear, { da, db, rank }] of adapter.trainable) {
        const { inFeatures, outFeatures } = linear.weight;
        const read = (ref: typeof da, count: number) => ref!.buffer.download(new Float32Array(count), ref!.offset);
        first.set(linear.name, { A: read(da, rank * inFeatures), B: read(db, outFeatures * rank) });
      }
    }
    steps.push({ ...result, rate: RATE * factor });
  }
  const final = linears.map((linear): [string, Halves] => {
    const { a, b } = adapter.read(linear);
    return [linear.name, { A: a, B: b }];
  });
  return { steps, first, final: new Map(final) };
}

describe("a golden finetuning run", () => {
  for (const [what, name] of [
    ["loss", "losses"],
    ["norm", "grad_norms"],
    ["rate", "learning_rates"],
  ] as const) {
    itShared(`every step's ${what} is within 1e-4 of torch's`, async () => {
      const expected = readFloats(RUN, name).values;
      const { steps } = await run();
      for (const [i, step] of steps.entries()) {
        const error = Math.abs(step[what] - expected[i]!) / (expected[i] || 1);
        assert(error < 1e-4, `step ${i}: ${what} ${step[what]}, expected ${expected[i]}`);
      }
    });
  }

  itShared("gradients of the first step and final tensors are within 1e-3 of torch's", async () => {
    const { first, final } = await run();
    assertEquals([first.size, final.size], [14, 14]);
    for (const [module, halves] of final) {
      for (const half of ["A", "B"] as const) {
        const error = relativeDistance(halves[half], lora("final", module, half));
        assert(error < 1e-3, `final ${module}.lora_${half} is off by ${error}`);
        const gradient = relativeDistance(first.get(module)![half], lora("grad0", module, half));
        assert(gradient < 1e-3, `gradient of ${module}.lora_${half} is off by ${gradient}`);
      }
    }
  });
});
