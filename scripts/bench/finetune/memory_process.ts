/** One training run of a few steps in a process of its own. Reads a MemoryTask on standard input, prints a MemoryAnswer. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Context } from "../../../ffi/mod.ts";
import { TrainedAdapter } from "../../../runtime/finetune/trained_adapter.ts";
import { TrainingStep } from "../../../runtime/finetune/training_step.ts";
import { openCheckpoint } from "../../../runtime/formats/mod.ts";
import { residentBytes } from "../../../runtime/memory.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { type LoadedDecoder, loadDecoder } from "../../../runtime/models/load.ts";
import { randomDecoder } from "../../../runtime/models/random.ts";
import { SHAPES } from "../../../runtime/models/shapes.ts";
import { blockLinears } from "../../../runtime/models/weights.ts";
import { peakBytes } from "../../../runtime/quantize/peak_memory.ts";
import { initialLora } from "../../../runtime/quantize/training/lora.ts";
import { hasTokenizer, openTokenizer } from "../../../runtime/tokenizer/mod.ts";
import { ModelTrainer, nextTokens } from "../../../runtime/training/model_trainer.ts";
import type { MemoryAnswer, MemoryTask } from "./memory_task.ts";

function openModel(context: Context, { model, bits, group, headBits }: MemoryTask): LoadedDecoder {
  const known = SHAPES[model];
  if (known) return randomDecoder(context, parseConfig(known, model), { bits, group, headBits, seed: 1 });
  const checkpoint = openCheckpoint(model);
  return loadDecoder(context, checkpoint, parseConfig(checkpoint.config, model));
}

async function run(task: MemoryTask): Promise<MemoryAnswer> {
  const { rank, length, sequences, steps, threads } = task;
  using context = Context.open({ threads });
  const tokenizer = hasTokenizer(task.model) ? openTokenizer(task.model) : null;
  const programBytes = residentBytes();
  using model = openModel(context, task);
  const { weights } = model;
  const starts = weights.blocks.flatMap(blockLinears).map((linear, place) => {
    const first = () => initialLora(context, linear, { rank, alpha: rank, dora: false, seed: 1 }, [place]);
    return [
      linear,
      {
        get a() {
          return first().a;
        },
        get b() {
          return first().b;
        },
        magnitude: null,
        rank,
        alpha: rank,
      },
    ] as const;
  });
  using adapter = new TrainedAdapter(context, new Map(starts), false, { learningRate: 1e-4, weightDecay: 0 });
  starts.length = 0;
  const loras = adapter.trainable;
  const trainable = new Map(
    [...loras].map(([linear, lora]) => [linear, { weight: null, dweight: null, lora }] as const),
  );
  using trainer = new ModelTrainer({ context, weights, trainable, sequences, length });
  using step = new TrainingStep({ context, trainer, groups: [adapter.parameters], maxNorm: 1 });
  const ids = Int32Array.from({ length: sequences * length }, (_, i) => (i * 7919 + 11) % weights.config.vocabSize);
  tokenizer?.encode("The tokenizer stays, as it does in a run.");
  const pause = (): Promise<void> => Promise.resolve();
  for (let i = 0; i < steps; i++) await step.run([nextTokens(ids)], 1, pause);
  const { peakBytes: device, scratchBytes } = context.memory();
  return {
    programBytes,
    deviceBytes: device,
    mappedBytes: model.mappedBytes,
    scratchBytes,
    peakBytes: peakBytes(context),
  };
}

console.log(JSON.stringify(await run(JSON.parse(readFileSync(process.stdin.fd, "utf8")) as MemoryTask)));
