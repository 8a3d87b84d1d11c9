import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { createTinyModel } from "../../tests/fixtures/tiny_model.ts";
import { TARGETS } from "../finetune/settings.ts";
import { TrainedAdapter } from "../finetune/trained_adapter.ts";
import { TrainingStep } from "../finetune/training_step.ts";
import { openCheckpoint } from "../formats/mod.ts";
import { inspectModel } from "../inspect/inspect.ts";
import { parseConfig } from "../models/config.ts";
import { type LoadedDecoder, loadDecoder } from "../models/load.ts";
import { randomDecoder } from "../models/random.ts";
import { blockLinears } from "../models/weights.ts";
import { FrozenLora } from "../training/frozen_lora.ts";
import { ModelTrainer, nextTokens } from "../training/model_trainer.ts";
import { makePlan, type PlanOptions } from "./plan.ts";
import { imaginedModel, type PlannedModel, plannedModel } from "./planned_model.ts";
import { type TrainingSettings, trainingMemory } from "./training_memory.ts";

/** With a rank of its own. */
type Trained = TrainingSettings & { readonly rank: number };

const SETTINGS: Trained = {
  rank: 8,
  dora: false,
  below: false,
  targets: null,
  sequences: 2,
  length: 48,
  recompute: true,
  momentBits: 32,
  dropout: false,
};

/** Bytes of the context's buffers and of mapped matrices at the peak of a step with LoRA of that shape. */
async function measured(
  context: Context,
  model: LoadedDecoder,
  { rank, targets, sequences, length, recompute, momentBits }: Trained,
  frozenFrom: string | null = null,
): Promise<number> {
  const { weights } = model;
  const linears = weights.blocks.flatMap(blockLinears);
  const isTarget = (name: string): boolean => (targets ?? TARGETS).some((target) => name.endsWith(`.${target}`));
  const starts = linears
    .filter(({ name }) => isTarget(name))
    .map((linear) => {
      const { inFeatures, outFeatures } = linear.weight;
      const [a, b] = [new Float32Array(rank * inFeatures), new Float32Array(outFeatures * rank)];
      return [linear, { a, b, magnitude: null, rank, alpha: rank }] as const;
    });
  using adapter = new TrainedAdapter(context, new Map(starts), false, { learningRate: 0, weightDecay: 0, momentBits });
  const init = frozenFrom === null ? undefined : openCheckpoint(frozenFrom).initAdapter;
  using frozen = init ? new FrozenLora(context, init, linears) : null;
  const { trainable: trained } = adapter;
  const trainable = new Map(
    linears.map((linear) => {
      const [lora, below] = [trained.get(linear) ?? null, frozen?.linears.get(linear) ?? null];
      return [linear, { weight: null, dweight: null, lora, below }];
    }),
  );
  using trainer = new ModelTrainer({ context, weights, trainable, sequences, length, recompute });
  using step = new TrainingStep({ context, trainer, groups: [adapter.parameters], maxNorm: 1 });
  await step.run(
    [nextTokens(Int32Array.from({ length: sequences * length }, (_, i) => (i * 7) % 90))],
    1,
    async () => {},
  );
  return context.memory().peakBytes + model.mappedBytes;
}

/** What the plan says without the program. */
function counted(model: PlannedModel, settings: TrainingSettings): number {
  const parts = trainingMemory(model, settings, 0);
  return parts.reduce((sum, { part, bytes }) => (part === "program" ? sum : sum + bytes), 0);
}

const CONFIG = {
  model_type: "llama",
  hidden_size: 256,
  intermediate_size: 640,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 4096,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
};

const plan = (rest: Partial<Omit<PlanOptions, "training">> & { training?: Partial<TrainingSettings> }) => {
  using context = Context.open({ threads: 1 });
  return makePlan(context, {
    shape: "llama-2-70b",
    storage: null,
    serving: { sequences: 1, contextLength: undefined },
    memory: 24e9,
    programBytes: 60e6,
    ...rest,
    training: { ...SETTINGS, sequences: 1, length: 512, ...rest.training },
  });
};

describe("trainingMemory", () => {
  it("counts what a training step allocates", async () => {
    const changes: Record<string, Partial<Trained>> = {
      "as it is by default": {},
      "keeping all blocks": { recompute: false },
      "8-bit moments": { momentBits: 8, rank: 32 },
      "few targets, one sequence": { targets: ["q_proj", "down_proj"], sequences: 1 },
    };
    for (const [name, changed] of Object.entries(changes)) {
      for (const tied of [true, false]) {
        const settings = { ...SETTINGS, ...changed };
        const config = parseConfig({ ...CONFIG, tie_word_embeddings: tied }, "the test");
        using context = Context.open({ threads: 1 });
        using model = randomDecoder(context, config, { bits: 2, group: 64, headBits: 8, seed: 1 });
        const actual = await measured(context, model, settings);
        const storage = { bits: 2, group: 64, embeddingBits: 8 } as const;
        const planned = counted(imaginedModel(context, "the test", config, storage), settings);
        assertAlmostEquals(planned / actual, 1, 0.01, `${name}, ${tied ? "tied" : "with a head"}`);
      }
    }
  });

  it("counts a folder as it lies, and the calibrated LoRA where it stays below another", async () => {
    using tiny = await createTinyModel({ loraRank: 16 });
    using context = Context.open({ threads: 1 });
    const checkpoint = openCheckpoint(tiny.dir);
    using model = loadDecoder(context, checkpoint, parseConfig(checkpoint.config, tiny.dir));
    const settings = { ...SETTINGS, rank: 24, below: true };
    const actual = await measured(context, model, settings, tiny.dir);
    const planned = plannedModel(context, tiny.dir, null);
    assertAlmostEquals(counted(planned, settings) / actual, 1, 0.02);
    const tensors = [...checkpoint.initAdapter!.targets.values()].flatMap(({ a, b }) => [a, b]);
    const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    assertEquals(counted(planned, settings) - counted(planned, { ...settings, below: false }), bytes);
    // Trained itself, it has the values' size four times, and nothing lies below.
    const own = trainingMemory(planned, { ...settings, rank: null, below: false }, 0);
    assertEquals(own.find(({ part }) => part === "LoRA")?.bytes, bytes);
    assertEquals(
      own.find(({ part }) => part === "frozen LoRA"),
      undefined,
    );
  });
});

describe("makePlan", () => {
  it("finds room for a 2-bit Llama-2-70B: rank 64 in 40 GB, rank 8 in 24 GB", () => {
    const large = plan({ training: { rank: 64 }, memory: 40e9 });
    assert(large.training.fits, `${large.training.bytes}`);
    assertEquals([large.training.linears, large.training.loraParameters], [560, 828_375_040]);
    assert(plan({ memory: 24 * 2 ** 30 }).training.fits);
    assert(plan({ training: { momentBits: 8 } }).training.fits);
  });

  it("says what else would fit where a plan does not", () => {
    const tight = plan({ training: { rank: 16 } });
    assert(!tight.training.fits);
    const bytes = tight.remedies.map((remedy) => remedy.bytes);
    assertEquals(
      bytes,
      bytes.toSorted((a, b) => a - b),
    );
    assert(bytes.every((each) => each < tight.training.bytes));
    const rank = tight.remedies.find(({ change }) => change === "--rank 8");
    assertEquals(rank?.bytes, plan({}).training.bytes);
    assertEquals(tight.remedies.map(({ change }) => change.split(" ")[0]).toSorted(), [
      "--embed-bits",
      "--optimizer-bits",
      "--rank",
      "--seq",
      "--targets",
    ]);
    assertEquals(plan({ memory: 1e12 }).remedies, []);
  });

  it("counts serving as `apiq inspect` does", async () => {
    using tiny = await createTinyModel({ loraRank: 4 });
    const { serving } = plan({ shape: tiny.dir, training: { rank: null } });
    const { memory } = inspectModel(tiny.dir);
    const part = (name: string) => serving.parts.find((each) => each.part === name)?.bytes;
    assertEquals([part("LoRA in 16 bits"), part("KV cache")], [memory.lora, memory.kvCache]);
    assertAlmostEquals(serving.bytes / memory.total, 1, 0.01);
  });

  it("refuses what cannot be planned", async () => {
    assertThrows(() => plan({ shape: "no-such-thing" }), Error, "llama-2-7b");
    const storage = { bits: 2, group: 128, embeddingBits: 16 } as const;
    assertThrows(() => plan({ shape: "smollm2-135m", storage }), Error, "576 columns");
    using tiny = await createTinyModel();
    assertThrows(() => plan({ shape: tiny.dir, storage }), Error, "packed already");
  });
});
