/** `finetune`: what a run makes, and that the server computes with it what was trained. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { finetune } from "../../runtime/finetune/finetune.ts";
import { openAdapter, openCheckpoint, readTensor } from "../../runtime/formats/mod.ts";
import { calibrationText, createDenseModel } from "../fixtures/dense_model.ts";
import { createTinyModel } from "../fixtures/tiny_model.ts";
import {
  contents,
  firstBlock,
  LENGTH,
  packed,
  readLog,
  served,
  servedLoss,
  smallOptions,
  temporaryFolder,
} from "./run.ts";

describe("finetune", () => {
  it("lowers the loss, validates, keeps the best values and writes what peft and the server read", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallOptions(model.dir, folder.dir, {}, { validation: { file: null, holdOut: 4, every: 2 } });
    const result = await finetune(options);
    assertEquals([result.steps, result.epochs], [6, 2]);
    assert(result.best!.loss < result.firstValidation!.loss - 1, `${result.best!.loss}`);
    assertEquals(readdirSync(result.out).sort(), [
      "adapter_config.json",
      "adapter_model.safetensors",
      "apiq.json",
      "report.html",
      "train.jsonl",
    ]);
    assert(!existsSync(`${result.out}.partial`));
    const { binding, rank, alpha, targets } = openAdapter(result.out);
    assertEquals([rank, alpha, targets.size], [4, 8, 14]);
    assertEquals(binding, { base: openCheckpoint(model.dir).fingerprint, replaces: false });
    const records = readLog(result.out);
    assertEquals(
      records.filter(({ type }) => type === "eval").map(({ step }) => step),
      [0, 2, 4, 6],
    );
    assertEquals(
      records.filter(({ type }) => type === "step").map(({ step }) => step),
      [1, 2, 3, 4, 5, 6],
    );
  });

  for (const [name, given, lora] of [
    ["LoRA", {}, {}],
    ["rsLoRA", {}, { rsLora: true }],
    ["DoRA", {}, { dora: true }],
    ["LoRA of q and v alone", { targets: ["q_proj", "v_proj"] }, {}],
  ] as const) {
    it(`${name} on a packed model: the server's loss is that of validation`, async () => {
      using dense = await createDenseModel({ family: "qwen2" });
      using folder = temporaryFolder();
      const model = await packed(dense.dir, folder.dir, "rtn");
      const val = join(folder.dir, "val.txt");
      writeFileSync(val, calibrationText(LENGTH));
      const validation = { file: val, holdOut: 0, every: null };
      const options = smallOptions(model, folder.dir, given, { validation, lora: { rank: 4, alpha: 8, ...lora } });
      const result = await finetune(options);
      const ids = firstBlock(model);
      const before = servedLoss(model, undefined, ids);
      assertAlmostEquals(result.firstValidation!.loss, before, 1e-4);
      const after = servedLoss(model, result.out, ids);
      assert(after < before - 0.1, `${before} -> ${after}`);
      // The server holds LoRA in 16 bits.
      assertAlmostEquals(result.best!.loss, after, 5e-3);
    });
  }

  it("begins with the model's calibrated LoRA, which the result replaces", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const val = join(folder.dir, "val.txt");
    writeFileSync(val, calibrationText(LENGTH));
    const validation = { file: val, holdOut: 0, every: null };
    const result = await finetune(smallOptions(model, folder.dir, {}, { validation, lora: {} }));
    const ids = firstBlock(model);
    assertAlmostEquals(result.firstValidation!.loss, servedLoss(model, undefined, ids), 5e-3);
    assertAlmostEquals(result.best!.loss, servedLoss(model, result.out, ids), 5e-3);
    assertEquals(openAdapter(result.out).binding?.replaces, true);
  });

  it("keeps what the calibrated LoRA has outside --targets, and trains only those", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const options = smallOptions(model, folder.dir, { targets: ["v_proj"] }, { lora: {} });
    const { out } = await finetune(options);
    const [start, end] = [openCheckpoint(model).initAdapter!, openAdapter(out)];
    assertEquals([...end.targets.keys()].sort(), [...start.targets.keys()].sort());
    for (const [module, { a, b }] of end.targets) {
      const from = start.targets.get(module)!;
      const same = readTensor(b).every((value, i) => value === readTensor(from.b)[i]);
      assertEquals(same, !module.endsWith("v_proj"), module);
      assertEquals(readTensor(a).length, readTensor(from.a).length);
    }
  });

  for (const [name, lora] of [
    ["LoRA", {}],
    ["DoRA", { dora: true }],
  ] as const) {
    it(`from zero, ${name} comes on top of the calibrated one, as the server applies it`, async () => {
      using dense = await createDenseModel();
      using folder = temporaryFolder();
      const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
      const val = join(folder.dir, "val.txt");
      writeFileSync(val, calibrationText(LENGTH));
      const more = {
        start: "zero",
        lora: { rank: 4, alpha: 8, ...lora },
        validation: { file: val, holdOut: 0, every: null },
      };
      const notes: string[] = [];
      const result = await finetune(smallOptions(model, folder.dir, {}, more), { onNote: (text) => notes.push(text) });
      const ids = firstBlock(model);
      assertAlmostEquals(result.firstValidation!.loss, servedLoss(model, undefined, ids), 5e-3);
      assertAlmostEquals(result.best!.loss, servedLoss(model, result.out, ids), 5e-3);
      assertEquals(openAdapter(result.out).binding?.replaces, false);
      assertStringIncludes(notes.join("\n"), "comes on top of the calibrated one");
    });
  }

  it("continues from an adapter that it made", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const validation = { file: null, holdOut: 4, every: null };
    const first = await finetune(smallOptions(model.dir, folder.dir, {}, { validation }));
    const again = { validation, lora: {}, start: first.out, out: join(folder.dir, "again") };
    const second = await finetune(smallOptions(model.dir, folder.dir, {}, again));
    assertAlmostEquals(second.firstValidation!.loss, first.best!.loss, 1e-6);
    assert(second.best!.loss <= second.firstValidation!.loss);
  });

  it("gives the same losses on any number of threads, and within rounding with rows that go through together", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const run = async (name: string, given: object, threads: number) => {
      const out = join(folder.dir, name);
      return readLog((await finetune({ ...smallOptions(model.dir, folder.dir, given), out, threads })).out);
    };
    const one = await run("one", {}, 1);
    const threads = await run("threads", {}, 3);
    const together = await run("together", { microBatch: 3 }, 1);
    for (const [i, { loss }] of one.entries()) {
      assertEquals(threads[i]!.loss, loss);
      assertAlmostEquals(together[i]!.loss, loss, 1e-4 * loss);
    }
  });

  it("makes the same bytes with --no-recompute", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
    const run = async (name: string, recompute: boolean) => {
      const more = { out: join(folder.dir, name), recompute, lora: {} };
      return contents((await finetune(smallOptions(model, folder.dir, { dropout: 0.1, epochs: 1 }, more))).out);
    };
    assertEquals(await run("kept", false), await run("again", true));
  });

  it("is refused for an adapter of another model, with both fingerprints", async () => {
    using model = await createDenseModel();
    using other = await createTinyModel();
    using folder = temporaryFolder();
    const { out } = await finetune(smallOptions(model.dir, folder.dir, { maxSteps: 1 }));
    const [own, theirs] = [model.dir, other.dir].map((dir) => openCheckpoint(dir).fingerprint);
    const refusal = await assertRejects(async () => served(other.dir, out), Error);
    assertStringIncludes(refusal.message, "the adapter was trained on another model");
    assertStringIncludes(refusal.message, `received ${own}, expected ${theirs}`);
  });

  it("stops at the first loss that is no number, names the step and keeps the last good adapter", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallOptions(model.dir, folder.dir, { learningRate: 1e30, weightDecay: 0, warmup: 2 });
    const { message } = await assertRejects(() => finetune(options), Error);
    assert(
      /^Cannot make step 3 of 8: the loss became NaN; a lower --lr may help\. The adapter after step 2 /.test(message),
    );
    const dir = `${options.out}.partial`;
    assertStringIncludes(message, `${dir}/last-good`);
    const { targets } = openAdapter(join(dir, "last-good"));
    for (const { a, b } of targets.values()) assert([...readTensor(a), ...readTensor(b)].every(Number.isFinite));
    assertEquals(JSON.parse(readFileSync(join(dir, "last-good", "apiq.json"), "utf8")).replaces, false);
    assert(!existsSync(options.out));
  });
});
