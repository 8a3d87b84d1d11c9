/** apiq's side, with the parts that `apiq finetune` trains with. Reads a SpeedTask, prints a SpeedAnswer. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Context } from "../../../ffi/mod.ts";
import { TARGETS } from "../../../runtime/finetune/settings.ts";
import { openStart, startValues } from "../../../runtime/finetune/start.ts";
import { TrainedAdapter } from "../../../runtime/finetune/trained_adapter.ts";
import { TrainingStep } from "../../../runtime/finetune/training_step.ts";
import { openCheckpoint } from "../../../runtime/formats/mod.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { loadDecoder } from "../../../runtime/models/load.ts";
import { peakBytes } from "../../../runtime/quantize/peak_memory.ts";
import { ModelTrainer, nextTokens } from "../../../runtime/training/model_trainer.ts";
import type { SpeedAnswer, SpeedTask } from "./speed_task.ts";

async function run(task: SpeedTask): Promise<SpeedAnswer> {
  const { packed, learningRate, threads, warmup, recompute, compute, ids } = task;
  const checkpoint = openCheckpoint(packed);
  const start = openStart(checkpoint, "init", {});
  using context = Context.open({ threads });
  using model = loadDecoder(context, checkpoint, parseConfig(checkpoint.config, packed));
  const { weights } = model;
  const { trained } = startValues(context, weights, start, TARGETS, 0);
  using adapter = new TrainedAdapter(context, trained, start.lora.rsLora, { learningRate, weightDecay: 0 });
  const trainable = new Map(
    [...adapter.trainable].map(([linear, lora]) => [linear, { weight: null, dweight: null, lora }]),
  );
  const length = ids[0]!.length;
  using trainer = new ModelTrainer({ context, weights, trainable, sequences: 1, length, recompute, compute });
  using step = new TrainingStep({ context, trainer, groups: [adapter.parameters], maxNorm: 0 });
  const seconds: number[] = [];
  const losses: number[] = [];
  for (const [index, sequence] of ids.entries()) {
    const begin = performance.now();
    const { loss } = await step.run([nextTokens(Int32Array.from(sequence))], 1, () => Promise.resolve());
    context.synchronize();
    if (index >= warmup) seconds.push((performance.now() - begin) / 1000);
    losses.push(loss);
  }
  const how = `${compute === "bf16" ? ", in bfloat16" : ""}${recompute ? "" : ", without recomputing"}`;
  return { seconds, losses, peakBytes: peakBytes(context), about: `apiq on ${context.describe().isa}${how}` };
}

console.log(JSON.stringify(await run(JSON.parse(readFileSync(process.stdin.fd, "utf8")) as SpeedTask)));
