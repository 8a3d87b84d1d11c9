/** Training of packed weights through the rounding that makes them: `apiq finetune --train-weights`. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { finetune } from "../../runtime/finetune/finetune.ts";
import type { FinetuneOptions } from "../../runtime/finetune/options.ts";
import { planFinetuning } from "../../runtime/finetune/plan.ts";
import { prepare } from "../../runtime/finetune/prepare.ts";
import type { FinetuneSettings } from "../../runtime/finetune/settings.ts";
import { batchesOf } from "../../runtime/finetune/steps.ts";
import { Training } from "../../runtime/finetune/training.ts";
import { openCheckpoint, readBytes } from "../../runtime/formats/mod.ts";
import { calibrationText, createDenseModel, DENSE_VOCAB } from "../fixtures/dense_model.ts";
import {
  contents,
  firstBlock,
  LENGTH,
  numbersOf,
  packed,
  readLog,
  servedLoss,
  smallOptions,
  temporaryFolder,
} from "./run.ts";

const VALIDATION = { file: null, holdOut: 4, every: 4 };

function options(
  model: string,
  folder: string,
  given: Partial<FinetuneSettings> = {},
  more: Partial<FinetuneOptions> = {},
): FinetuneOptions {
  const settings = { trainWeights: true, weightLearningRate: 1e-3, learningRate: 1e-3, ...given };
  return smallOptions(model, folder, settings, { validation: VALIDATION, lora: {}, ...more });
}

describe("finetune --train-weights", () => {
  it("holds out no examples whose copies are trained on", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn", { bits: 3, group: 32 });
    const of = options(model, folder.dir, { maxSteps: 1 });
    const [file] = of.data.files;
    const twice = { ...of, data: { ...of.data, files: [file!, { ...file!, amount: 2 }] } };
    await assertRejects(() => finetune(twice), RangeError, "it is given twice");
  });

  it("begins as the packed model, to the last bit, wherever the weights come from", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 4, alpha: 8 });
    const first = async (name: string, of: FinetuneOptions) =>
      (await finetune({ ...of, out: join(folder.dir, name) })).firstValidation!.loss;
    const lora = smallOptions(model, folder.dir, { maxSteps: 1 }, { validation: VALIDATION, lora: {} });
    const untouched = await first("lora", lora);
    assertEquals(await first("as packed", options(model, folder.dir, { maxSteps: 1 })), untouched);
    const from = options(model, folder.dir, { maxSteps: 1 }, { weightsFrom: dense.dir });
    assertEquals(await first("as dense", from), untouched);
    const [note] = (await planFinetuning({ ...from, out: join(folder.dir, "plan") })).notes;
    assertEquals(note, `Weights begin as those of ${dense.dir}, where these round to the packed ones.`);
  });

  it("writes the model that was trained: the server's loss is that of the last validation", async () => {
    using dense = await createDenseModel({ family: "qwen3" });
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn", { bits: 3, group: 32 });
    const validation = { ...VALIDATION, file: firstBlockFile(folder.dir), holdOut: 0 };
    const more = { validation, lora: { rank: 2 }, weightsFrom: dense.dir };
    const result = await finetune(options(model, folder.dir, { epochs: 6 }, more));
    assertEquals([result.kind, result.best!.step], ["model", result.steps]);
    const [before, after] = [model, result.out].map((dir) => servedLoss(dir, undefined, firstBlock(model)));
    assertAlmostEquals(result.firstValidation!.loss, before!, 1e-4);
    // LoRA is written in 16 bits.
    assertAlmostEquals(result.best!.loss, after!, 2e-3);
    assert(after! < before! - 0.3, `${before} -> ${after}`);
    const [one, other] = [model, result.out].map((dir) => openCheckpoint(dir));
    assertEquals(other!.quantization, one!.quantization);
    for (const tensor of ["qweight", "scales"]) {
      const [a, b] = [one!, other!].map((c) => readBytes(c.tensor(`model.layers.1.mlp.up_proj.${tensor}`)));
      assert(
        a!.some((byte, i) => byte !== b![i]),
        tensor,
      );
    }
  });

  it("learns from a teacher what LoRA and scales alone do not", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const run = async (name: string, weightLearningRate: number) => {
      const given = { objective: "distill", topK: 16, epochs: 6, weightLearningRate } as const;
      const more = { teacher: dense.dir, lora: { rank: 2 }, out: join(folder.dir, name) };
      return (await finetune(options(model, folder.dir, given, more))).best!.loss;
    };
    const [without, all] = [await run("without", 0), await run("all", 1e-3)];
    assert(all < 0.9 * without, `${without}, ${all}`);
  });

  it("trains only the scales of matrices that have no integer zeros, and leaves dense ones as they are", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "nf4", { bits: 4 });
    const { out } = await finetune(options(model, folder.dir, {}, { lora: { rank: 2 } }));
    const [one, other] = [model, out].map((dir) => openCheckpoint(dir));
    const bytes = (part: string) =>
      [one!, other!].map((c) => readBytes(c.tensor(`model.layers.0.mlp.up_proj.${part}`)));
    const [before, after] = bytes("qweight");
    assertEquals(after, before);
    assert(bytes("scales")[0]!.some((byte, i) => byte !== bytes("scales")[1]![i]));
  });

  it("with --rank 0 writes a model without LoRA", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const { out, best } = await finetune(options(model, folder.dir, {}, { lora: { rank: 0 }, weightsFrom: dense.dir }));
    assertEquals(openCheckpoint(out).initAdapter, undefined);
    assert(best!.step > 0);
  });

  for (const optimizerBits of [32, 8] as const) {
    it(`continues to the same bytes with moments of ${optimizerBits} bits`, async () => {
      using dense = await createDenseModel();
      using folder = temporaryFolder();
      const model = await packed(dense.dir, folder.dir, "rtn");
      const more = { lora: { rank: 2 }, weightsFrom: dense.dir, saveEvery: 1 };
      const of = options(model, folder.dir, { optimizerBits, batchSize: 6, microBatch: 2 }, more);
      const whole = await finetune({ ...of, out: join(folder.dir, "whole") });
      const stop = new AbortController();
      const onStep = ({ step }: { step: number }) => step === 3 && stop.abort();
      await assertRejects(() => finetune({ ...of, signal: stop.signal }, { onStep }), Error);
      const result = await finetune(of);
      assertEquals(numbersOf(readLog(result.out)), numbersOf(readLog(whole.out)));
      assertEquals(contents(result.out), contents(whole.out));
    });
  }

  it("gives the same whether blocks run again or are kept", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const run = async (name: string, recompute: boolean) =>
      await finetune(
        options(model, folder.dir, { maxSteps: 2 }, { lora: { rank: 2 }, recompute, out: join(folder.dir, name) }),
      );
    assertEquals(contents((await run("one", true)).out), contents((await run("other", false)).out));
  });

  it("is planned with the memory that a step takes, and with the state on disk", async () => {
    using dense = await createDenseModel({ hidden: 256, intermediate: 512 });
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    for (const given of [{}, { trainWeights: false, weightLearningRate: undefined, trainScales: true }]) {
      const of = options(model, folder.dir, given, { lora: { rank: 2 }, weightsFrom: dense.dir });
      const plan = await planFinetuning(of);
      const counted = plan.memory.reduce((sum, { part, bytes }) => (part === "program" ? sum : sum + bytes), 0);
      using context = Context.open({ threads: 1 });
      const prepared = prepare(of);
      using training = new Training(context, prepared, of);
      await training.step.run(batchesOf(prepared.training.slice(0, 1), prepared.shape), 1, async () => {});
      // Embedding and head stay in their file.
      const actual = context.memory().peakBytes + 2 * 2 * DENSE_VOCAB * 256;
      assert(Math.abs(counted / actual - 1) < 0.03, `planned ${counted} bytes, took ${actual}`);
      assert(plan.diskBytes > 2 * training.stateBytes);
      const weights = 2 * (256 * (128 + 64 + 64 + 128) + 3 * 256 * 512);
      assertEquals(training.stateBytes > 3 * 4 * weights, of.settings.trainWeights);
    }
  });

  it("is refused where it cannot be done, and says why", async () => {
    using dense = await createDenseModel();
    using other = await createDenseModel({ layers: 1 });
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const refusal = async (base: string, more: Partial<FinetuneOptions>) =>
      (await assertRejects(() => finetune(options(base, folder.dir, {}, more)), Error)).message;
    const packedOnly = `Cannot use --train-weights: the weights of ${dense.dir} are not packed`;
    assertStringIncludes(await refusal(dense.dir, {}), packedOnly);
    assertStringIncludes(await refusal(model, { start: "zero" }), "Cannot use --train-weights with --start zero");
    const layers = `Cannot begin with the weights of ${other.dir}: it has layers 1, expected 2`;
    assertStringIncludes(await refusal(model, { weightsFrom: other.dir }), layers);
    const received = `Cannot begin with the weights of ${model}: its weights are packed, expected full precision`;
    assertStringIncludes(await refusal(model, { weightsFrom: model }), received);
  });
});

function firstBlockFile(folder: string): string {
  const file = join(folder, "val.txt");
  writeFileSync(file, calibrationText(LENGTH));
  return file;
}
