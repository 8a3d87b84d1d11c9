/** Distillation from a full-precision model, 8-bit moments, and training of a model's scales. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { finetune } from "../../runtime/finetune/finetune.ts";
import type { FinetuneOptions } from "../../runtime/finetune/options.ts";
import type { FinetuneSettings } from "../../runtime/finetune/settings.ts";
import { openCheckpoint, readBytes, readTensor } from "../../runtime/formats/mod.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { calibrationText, createDenseModel } from "../fixtures/dense_model.ts";
import { logitsOf } from "../golden/load.ts";
import { contents, LENGTH, numbersOf, packed, readLog, served, smallOptions, temporaryFolder } from "./run.ts";

const VALIDATION = { file: null, holdOut: 4, every: 4 };

function distilled(
  model: string,
  teacher: string,
  folder: string,
  given: Partial<FinetuneSettings> = {},
  more: Partial<FinetuneOptions> = {},
): FinetuneOptions {
  const settings = { objective: "distill", topK: 16, ...given } as const;
  return smallOptions(model, folder, settings, { teacher, validation: VALIDATION, lora: {}, ...more });
}

/** Mean KL(teacher || student) over the positions of a text. */
function divergence(teacher: string, student: string, adapter?: string): number {
  const ids = openTokenizer(teacher).encode(calibrationText(LENGTH));
  using one = served(teacher);
  using other = served(student, adapter);
  const vocab = one.config.vocabSize;
  const [p, q] = [logitsOf(one, ids), logitsOf(other, ids, adapter === undefined ? -1 : 1)];
  let sum = 0;
  for (let i = 0; i < ids.length; i++) {
    const [a, b] = [p, q].map((logits) => logSoftmax(logits.subarray(i * vocab, (i + 1) * vocab)));
    sum += a!.reduce((total, logP, token) => total + Math.exp(logP) * (logP - b![token]!), 0);
  }
  return sum / ids.length;
}

function logSoftmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits);
  const whole = Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
  return Float64Array.from(logits, (x) => x - most - whole);
}

describe("finetune with a teacher", () => {
  it("brings the packed model closer to the full-precision one, as the server measures it", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const result = await finetune(distilled(model, dense.dir, folder.dir, { epochs: 3 }));
    assert(result.best!.loss < 0.8 * result.firstValidation!.loss);
    const [before, after] = [divergence(dense.dir, model), divergence(dense.dir, model, result.out)];
    assert(after < 0.8 * before, `${before} -> ${after}`);
    const [first] = readLog(result.out).filter(({ type }) => type === "step");
    assert(first!.kl! > 0 && first!.nll! > 0);
    assertAlmostEquals(first!.loss, first!.kl!, 1e-6);
  });

  it("mixes the data's loss in, at a temperature", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const more = { lora: { rank: 4, alpha: 8 }, validation: { file: null, holdOut: 0, every: null } };
    const given = { temperature: 2, mix: 0.25, maxSteps: 2 };
    const { out } = await finetune(distilled(model, dense.dir, folder.dir, given, more));
    for (const { loss, nll, kl } of readLog(out)) assertAlmostEquals(loss, 0.75 * 4 * kl! + 0.25 * nll!, 1e-5);
  });

  it("continues to the same bytes while the teacher is asked and after, and asks it once", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    // More examples than one file holds.
    const given = { length: 8, batchSize: 32 };
    const options = distilled(model, dense.dir, folder.dir, given, { lora: { rank: 4, alpha: 8 }, saveEvery: 1 });
    const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
    const stopped = new AbortController();
    const asked: number[] = [];
    const onTeacher = (done: number): void => {
      asked.push(done);
      stopped.abort();
    };
    await assertRejects(() => finetune({ ...options, signal: stopped.signal }, { onTeacher }), Error);
    const second = new AbortController();
    const onStep = ({ step }: { step: number }) => step === 3 && second.abort();
    await assertRejects(() => finetune({ ...options, signal: second.signal }, { onTeacher, onStep }), Error);
    assertEquals(asked, [64, 96]);
    assert(existsSync(join(`${options.out}.partial`, "teacher")));
    const result = await finetune(options, { onTeacher });
    assertEquals(asked, [64, 96]);
    assertEquals(numbersOf(readLog(result.out)), numbersOf(readLog(whole.out)));
    assertEquals(contents(result.out), contents(whole.out));
    assert(!readdirSync(result.out).includes("teacher"));
  });

  it("asks again where the temperature is another", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const options = distilled(model, dense.dir, folder.dir, { maxSteps: 1 }, { lora: { rank: 4 } });
    let asked = 0;
    const stop = new AbortController();
    const onTeacher = (): void => {
      asked++;
      stop.abort();
    };
    await assertRejects(() => finetune({ ...options, signal: stop.signal }, { onTeacher }), Error);
    const settings = { ...options.settings, temperature: 3 };
    const { out } = await finetune({ ...options, settings }, { onTeacher });
    assertEquals(asked, 2);
    const whole = await finetune({ ...options, settings, out: join(folder.dir, "whole") });
    assertEquals(contents(out), contents(whole.out));
  });

  it("is refused with a teacher of another vocabulary or one that is packed with LoRA", async () => {
    using dense = await createDenseModel();
    using other = await createDenseModel({ config: { vocab_size: 264 }, tied: true, layers: 1 });
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8 });
    const refusal = async (teacher: string, given: Partial<FinetuneSettings> = {}) =>
      (await assertRejects(() => finetune(distilled(model, teacher, folder.dir, given)), Error)).message;
    assertStringIncludes(await refusal(model), "it has a calibrated LoRA, expected a full-precision model");
    assertStringIncludes(
      await refusal(other.dir, { topK: 265 }),
      "Cannot use --top-k: received 265, expected at most 264",
    );
  });
});

describe("finetune --train-scales", () => {
  for (const [name, method, settings] of [
    ["affine", "apiq-bw", { rank: 8, alpha: 8 }],
    ["lut with scales in 8 bits", "nf4", { bits: 4, doubleQuantization: true }],
  ] as const) {
    it(`${name}: makes a model with the same integers that is closer to the teacher, as the server measures it`, async () => {
      using dense = await createDenseModel({ family: "qwen3" });
      using folder = temporaryFolder();
      const model = await packed(dense.dir, folder.dir, method, settings);
      const given = { trainScales: true, scaleLearningRate: 5e-3, epochs: 3 };
      const result = await finetune(
        distilled(model, dense.dir, folder.dir, given, method === "nf4" ? { lora: { rank: 8 } } : {}),
      );
      assertEquals(result.kind, "model");
      const [before, after] = [openCheckpoint(model), openCheckpoint(result.out)];
      assert(before.fingerprint !== after.fingerprint);
      const bytes = (checkpoint: typeof before, tensor: string): Uint8Array => readBytes(checkpoint.tensor(tensor));
      const at = "model.layers.1.mlp.up_proj";
      assertEquals(bytes(after, `${at}.qweight`), bytes(before, `${at}.qweight`));
      assertEquals(bytes(after, "model.embed_tokens.weight"), bytes(before, "model.embed_tokens.weight"));
      for (const norm of ["model.norm", "model.layers.0.input_layernorm", "model.layers.1.self_attn.k_norm"]) {
        const [a, b] = [before, after].map((checkpoint) => readTensor(checkpoint.tensor(`${norm}.weight`)));
        assert(
          a!.some((value, i) => value !== b![i]),
          norm,
        );
      }
      assert(after.initAdapter !== undefined);
      const [first, last] = [divergence(dense.dir, model), divergence(dense.dir, result.out)];
      assert(last < 0.8 * first, `${first} -> ${last}`);
    });
  }

  it("trains more than LoRA alone does", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const run = async (name: string, given: Partial<FinetuneSettings>) =>
      await finetune({ ...distilled(model, dense.dir, folder.dir, given), out: join(folder.dir, name) });
    const alone = await run("alone", {});
    const both = await run("both", { trainScales: true, scaleLearningRate: 5e-3 });
    assert(both.parameters > alone.parameters);
    assert(both.best!.loss < alone.best!.loss, `${both.best!.loss}, ${alone.best!.loss}`);
  });

  it("continues to the same bytes", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const options = smallOptions(
      model,
      folder.dir,
      { trainScales: true, optimizerBits: 8 },
      { lora: {}, saveEvery: 1 },
    );
    const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
    const stop = new AbortController();
    const onStep = ({ step }: { step: number }) => step === 3 && stop.abort();
    await assertRejects(() => finetune({ ...options, signal: stop.signal }, { onStep }), Error);
    assertEquals(contents((await finetune(options)).out), contents(whole.out));
  });

  it("is refused for a model that is not packed, and on top of a calibrated LoRA", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8 });
    const refusal = async (base: string, more: Partial<FinetuneOptions>) =>
      (await assertRejects(() => finetune(smallOptions(base, folder.dir, { trainScales: true }, more)), Error)).message;
    assertStringIncludes(
      await refusal(dense.dir, {}),
      `Cannot use --train-scales: the weights of ${dense.dir} are not packed`,
    );
    assertStringIncludes(await refusal(model, { start: "zero" }), "Cannot use --train-scales with --start zero");
  });
});

describe("finetune --optimizer-bits 8", () => {
  it("follows the run with 32 bits closely", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const run = async (name: string, optimizerBits: 32 | 8) => {
      const options = smallOptions(model.dir, folder.dir, { optimizerBits }, { validation: VALIDATION });
      return await finetune({ ...options, out: join(folder.dir, name) });
    };
    const [exact, rounded] = [await run("exact", 32), await run("rounded", 8)];
    const fall = exact.firstValidation!.loss - exact.best!.loss;
    assertAlmostEquals(rounded.best!.loss, exact.best!.loss, 0.1 * fall);
    assert(rounded.best!.loss !== exact.best!.loss);
  });
});
