/** The scales of a whole model trained after its blocks, from a dense folder to one that the engine loads. */

import { Buffer } from "node:buffer";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertLess, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint, readBytes } from "../../runtime/formats/mod.ts";
import { type QuantizeEvents, type QuantizeOptions, quantize } from "../../runtime/quantize/pipeline.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { calibrationText, createDenseModel, DENSE_VOCAB } from "../fixtures/dense_model.ts";
import { logitsOf } from "../golden/load.ts";
import { LENGTH, open, SAMPLES, smallRun, temporaryFolder } from "./run.ts";

const END_TO_END = { endToEndEpochs: 3, endToEndLearningRate: 1e-2, epochs: 1 } as const;

/** Mean -log p(next token) of the calibration samples, by the engine. */
function servedLosses(dir: string): number[] {
  using loaded = open(dir);
  const ids = openTokenizer(dir).encode(calibrationText(SAMPLES * LENGTH + 200));
  return Array.from({ length: SAMPLES }, (_, sample) => {
    const window = ids.slice(sample * LENGTH, (sample + 1) * LENGTH);
    const logits = logitsOf(loaded, window);
    let loss = 0;
    for (let row = 0; row < LENGTH - 1; row++) {
      const row32 = logits.subarray(row * DENSE_VOCAB, (row + 1) * DENSE_VOCAB);
      const sum = row32.reduce((total, logit) => total + Math.exp(logit), 0);
      loss += Math.log(sum) - row32[window[row + 1]!]!;
    }
    return loss / (LENGTH - 1);
  });
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Tensors whose bytes differ, by the end of their names. */
function differentTensors(a: string, b: string): Set<string> {
  const [left, right] = [openCheckpoint(a), openCheckpoint(b)];
  const names = [...left.tensors.keys()];
  assertEquals([...right.tensors.keys()], names);
  const differ = names.filter((name) => {
    const [x, y] = [left, right].map((checkpoint) => readBytes(checkpoint.tensor(name)));
    return !Buffer.from(x!).equals(y!);
  });
  return new Set(differ.map((name) => name.slice(name.lastIndexOf(".") + 1)));
}

const adapterOf = (dir: string): Uint8Array => readFileSync(join(dir, "apiq_init", "adapter_model.safetensors"));

/** Runs until `when` says so, as if it had been stopped there. */
async function stopWhen(options: QuantizeOptions, events: (stop: () => void) => QuantizeEvents): Promise<void> {
  const controller = new AbortController();
  const run = quantize(
    { ...options, signal: controller.signal },
    events(() => controller.abort()),
  );
  assertEquals((await assertRejects(() => run, Error)).name, "AbortError");
}

describe("quantize with an end-to-end phase", () => {
  it("changes scales only, and lowers the loss that the engine has on the calibration text", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const losses: number[] = [];
    const onModelStep: QuantizeEvents["onModelStep"] = ({ step, epoch, loss }) => {
      if (step === 1 && epoch === 1) losses.push(loss!);
    };
    const options = (name: string, given: object) => ({
      ...smallRun(model.dir, folder.dir, "block-ap", given),
      out: join(folder.dir, name),
    });
    const blocks = await quantize(options("blocks", { ...END_TO_END, endToEndEpochs: 0 }), { onModelStep });
    assertEquals(losses, []);
    const whole = await quantize(options("whole", END_TO_END), { onModelStep });
    const [before, after] = [servedLosses(blocks.out), servedLosses(whole.out)];
    assert(Math.abs(losses[0]! / before[0]! - 1) < 1e-3, `begins at ${losses[0]}, the engine has ${before[0]}`);
    assertLess(mean(after), mean(before) - 0.01);
    assertEquals(differentTensors(blocks.out, whole.out), new Set(["scales"]));
    assertEquals(adapterOf(whole.out), adapterOf(blocks.out));
    assertNotEquals(whole.fingerprint, blocks.fingerprint);
    const line = readFileSync(join(whole.out, "quantize.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((text) => JSON.parse(text))
      .find(({ type }) => type === "end-to-end");
    assertEquals(line.losses.length, 3);
    assertLess(line.losses[2], line.losses[0]);
    assertEquals(readdirSync(folder.dir).sort(), ["blocks", "calibration.txt", "whole"]);
  });

  for (const [name, given, more] of [
    ["DoRA", { dora: true }, {}],
    ["no LoRA", { rank: 0 }, {}],
    ["a packed embedding and a linear in 16 bits", {}, { embeddingBits: 8, keep: ["model.layers.0.mlp.down_proj"] }],
  ] as const) {
    it(`with ${name}: begins at the loss that the engine has, and lowers it`, async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const run = (out: string, settings: object) => ({
        ...smallRun(model.dir, folder.dir, "block-ap", { ...END_TO_END, ...given, ...settings }, more),
        out: join(folder.dir, out),
      });
      const losses: number[] = [];
      const whole = await quantize(run("whole", {}), { onModelStep: ({ loss }) => losses.push(loss!) });
      const blocks = await quantize(run("blocks", { endToEndEpochs: 0 }));
      const [before, after] = [servedLosses(blocks.out), servedLosses(whole.out)];
      assert(Math.abs(losses[0]! / before[0]! - 1) < 1e-3, `begins at ${losses[0]}, the engine has ${before[0]}`);
      assertLess(mean(after), mean(before));
    });
  }

  it("stopped in the phase or behind it, ends with the same bytes, and does nothing twice that was finished", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "block-ap", END_TO_END);
    const straight = await quantize({ ...options, out: join(folder.dir, "straight") });
    await stopWhen(options, (stop) => ({
      onModelStep: ({ epoch, step }) => {
        if (epoch === 2 && step === 2) stop();
      },
    }));
    assert(!existsSync(join(`${options.out}.partial`, "finished")));
    let steps = 0;
    await stopWhen(options, (stop) => ({ onModelStep: () => steps++, onAssemble: stop }));
    assertEquals(steps, 3 * SAMPLES);
    const resumed = await quantize(options, { onModelStep: () => steps++, onStep: () => steps++ });
    assertEquals(steps, 3 * SAMPLES);
    assertEquals(resumed.fingerprint, straight.fingerprint);
    assertEquals(differentTensors(resumed.out, straight.out), new Set());
    assertEquals(
      resumed.blocks.map(({ linears }) => linears),
      straight.blocks.map(({ linears }) => linears),
    );
    assertStringIncludes(readFileSync(join(resumed.out, "quantize.jsonl"), "utf8"), '"type":"end-to-end"');
  });

  it("forgets what was trained for blocks that are made again", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "block-ap", END_TO_END);
    await stopWhen(options, (stop) => ({ onAssemble: stop }));
    for (const layer of ["000", "001"]) rmSync(join(`${options.out}.partial`, `block-${layer}.safetensors`));
    const other = { ...options, settings: { ...options.settings, bits: 3 as const } };
    let steps = 0;
    const made = await quantize(other, { onModelStep: () => steps++ });
    assertEquals(steps, 3 * SAMPLES);
    assertEquals(openCheckpoint(made.out).quantization?.base.bits, 3);
  });

  it("ends with the same bytes on any number of threads", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const [one, two] = await Promise.all(
      [1, 2].map((threads) =>
        quantize({
          ...smallRun(model.dir, folder.dir, "block-ap", END_TO_END, { threads }),
          out: join(folder.dir, String(threads)),
        }),
      ),
    );
    assertEquals(one!.fingerprint, two!.fingerprint);
  });

  it("leaves a model alone that has nothing packed", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    let steps = 0;
    const options = smallRun(model.dir, folder.dir, "block-ap", END_TO_END, { keep: ["model.layers.*.*.*"] });
    const { out } = await quantize(options, { onModelStep: () => steps++ });
    assertEquals(steps, 0);
    assertEquals(mean(servedLosses(out)), mean(servedLosses(model.dir)));
  });

  it("stops where the loss is no number any more, and says what may help", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "block-ap", { ...END_TO_END, endToEndLearningRate: 1e38 });
    const error = await assertRejects(() => quantize(options), Error);
    assertStringIncludes(error.message, "Cannot train the model end to end: the model's loss became");
    assertStringIncludes(error.message, "a lower --end-to-end-lr may help");
    assertStringIncludes(error.message, "2 of 2 blocks are kept");
  });
});
