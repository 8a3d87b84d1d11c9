import { assert, assertEquals, assertLess, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../../ffi/mod.ts";
import { blockLinears, type Linear } from "../../models/weights.ts";
import { minMaxQuantize } from "../affine.ts";
import type { AffineWeights, LoraMatrices, MethodSettings, QuantizationMethod, QuantizedLinear } from "../method.ts";
import { apiqBwMethod } from "../methods/apiq_bw.ts";
import { apiqLwMethod } from "../methods/apiq_lw.ts";
import { blockApMethod } from "../methods/block_ap.ts";
import { omniquantMethod } from "../methods/omniquant.ts";
import { type TestJob, testJob } from "../methods/test_job.ts";
import { uniform } from "../random.ts";

const METHODS = [apiqBwMethod, apiqLwMethod, omniquantMethod, blockApMethod];

const SETTINGS: Partial<MethodSettings> = {
  group: 32,
  rank: 4,
  alpha: 8,
  epochs: 8,
  loraLearningRate: 2e-3,
  clippingLearningRate: 1e-2,
  augLoss: false,
};

/** A job of a few thousand weights, with biases. */
function smallJob(context: Context, settings: Partial<MethodSettings> = {}): TestJob {
  const shape = { hiddenSize: 64, intermediateSize: 96, heads: 2, kvHeads: 1, qkvBias: true };
  return testJob(context, { ...SETTINGS, ...settings }, { shape, samples: 3, length: 24, noise: 0.1 });
}

const PARTS = [["q", "k", "v"], ["o"], ["gate", "up"], ["down"]];

const nameOf = (short: string): string =>
  `model.layers.0.${["q", "k", "v", "o"].includes(short) ? "self_attn" : "mlp"}.${short}_proj`;

const linearsOf = ({ job }: TestJob): readonly Linear[] => blockLinears(job.block);

const open = (threads = 2): Context => Context.open({ device: "cpu", threads });

function roundToNearest(test: TestJob): Map<string, QuantizedLinear> {
  const { job } = test;
  const { bits, group } = job.settings;
  return new Map(
    linearsOf(test).map(({ name, weight }) => {
      const { data, outFeatures, inFeatures } = weight;
      const parts = minMaxQuantize(job.context, data!, outFeatures, inFeatures, bits, group);
      return [name, { weights: { family: "affine", bits, group, zero: "integer", ...parts }, lora: null }];
    }),
  );
}

interface AffineResult {
  readonly weights: AffineWeights;
  readonly lora: LoraMatrices;
}

const isHalf = (values: Float32Array): boolean => values.every((value) => value === new Float16Array([value])[0]);

function assertStorable({ weights, lora }: QuantizedLinear): void {
  const { q, scales, zeros, bits } = weights as AffineWeights;
  const last = 2 ** bits - 1;
  assert(q.every((value) => value <= last));
  assert(zeros.every((value) => Number.isInteger(value) && value >= 0 && value <= last));
  assert(isHalf(scales) && scales.every((value) => value > 0));
  if (lora) assert(isHalf(lora.a) && isHalf(lora.b));
}

async function run(method: QuantizationMethod, settings: Partial<MethodSettings> = {}, threads = 2) {
  using context = open(threads);
  const test = smallJob(context, settings);
  return { results: await method.quantizeBlock(test.job), events: test.events };
}

describe("methods that train", () => {
  for (const method of METHODS) {
    for (const bits of [2, 3, 4] as const) {
      it(`${method.name} at ${bits} bits: the block's error falls below that of rounding to nearest`, async () => {
        using context = open();
        const test = smallJob(context, { bits, epochs: 20 });
        const results = await method.quantizeBlock(test.job);
        assertEquals(
          [...results.keys()],
          linearsOf(test).map(({ name }) => name),
        );
        for (const result of results.values()) assertStorable(result);
        assertLess(test.outputError(results), test.outputError(roundToNearest(test)));
      });
    }

    it(`${method.name}: the result is the same in every run and with any number of threads`, async () => {
      assertEquals((await run(method, {}, 2)).results, (await run(method, {}, 1)).results);
    });

    it(`${method.name}: losses fall, and events name epochs, steps and parts`, async () => {
      const { events } = await run(method);
      const parts = [...new Set(events.map(({ part }) => part))];
      const perPart = method === apiqLwMethod;
      assertEquals(parts, perPart ? PARTS.map((part) => part.map(nameOf).join(", ")) : [null]);
      for (const part of parts) {
        const means = events
          .filter((event) => event.part === part && event.step === event.steps)
          .map(({ loss }) => loss!);
        assertEquals(means.length, 8);
        assertLess(means.at(-1)!, means[0]);
      }
    });

    it(`${method.name}: kept linears are left out`, async () => {
      using context = open();
      const test = smallJob(context, { epochs: 1 });
      const kept = new Set([linearsOf(test)[1], linearsOf(test)[3]]);
      const results = await method.quantizeBlock({ ...test.job, kept });
      assertEquals([...results.keys()], ["q", "v", "gate", "up", "down"].map(nameOf));
      assertEquals((await method.quantizeBlock({ ...test.job, kept: new Set(linearsOf(test)) })).size, 0);
    });

    it(`${method.name}: a loss that is not a number stops it with the place`, async () => {
      using context = open();
      const test = smallJob(context);
      const { inputs } = test.job.calibration!;
      const ref = inputs.read(1);
      ref.buffer.upload(new Float32Array([Number.NaN]), ref.offset);
      await assertRejects(
        () => method.quantizeBlock(test.job),
        Error,
        "the loss became NaN in epoch 1, step 2; lower learning rates may help",
      );
    });
  }

  it("LoRA comes with apiq-bw, apiq-lw and block-ap, and not where the rank is 0", async () => {
    for (const method of METHODS) {
      const { results } = await run(method, { epochs: 1 });
      const loras = [...results.values()].map(({ lora }) => lora);
      assertEquals(
        loras.every((lora) => lora !== null),
        method !== omniquantMethod,
        method.name,
      );
      const without = await run(method, { epochs: 1, rank: 0 });
      assert(
        [...without.results.values()].every(({ lora }) => lora === null),
        method.name,
      );
    }
  });

  it("the seed decides the LoRA", async () => {
    const loraOf = async (seed: number) =>
      (await run(apiqBwMethod, { epochs: 1, seed })).results.get(nameOf("q"))!.lora;
    assertEquals(await loraOf(1), await loraOf(1));
    assertNotEquals(await loraOf(1), await loraOf(2));
  });

  for (const method of [apiqBwMethod, apiqLwMethod]) {
    it(`${method.name}: DoRA trains a magnitude along and is better than rounding to nearest`, async () => {
      using context = open();
      const test = smallJob(context, { dora: true, epochs: 20 });
      const results = await method.quantizeBlock(test.job);
      for (const [name, { lora }] of results) {
        const { outFeatures } = linearsOf(test).find((linear) => linear.name === name)!.weight;
        assertEquals(lora!.magnitude!.length, outFeatures);
      }
      assertLess(test.outputError(results), test.outputError(roundToNearest(test)));
    });

    it(`${method.name}: augLoss adds the full-precision output on the quantized input as a second target`, async () => {
      using context = open();
      const plain = smallJob(context, { epochs: 1, loraLearningRate: 0, clippingLearningRate: 0 });
      const augmented = smallJob(context, { ...plain.job.settings, augLoss: true });
      await method.quantizeBlock(plain.job);
      await method.quantizeBlock(augmented.job);
      const [once, twice] = [plain, augmented].map(({ events }) => events[0].loss!);
      assert(twice > 1.5 * once && twice < 2.5 * once, `losses are ${once} and ${twice}`);
    });
  }
});

/** A result of another method: integers that are not always the nearest ones, as GPTQ's, and a LoRA. */
function otherResult(test: TestJob): Map<string, AffineResult> {
  const half = (values: Float32Array): Float32Array => new Float32Array(new Float16Array(values));
  return new Map(
    [...roundToNearest(test)].map(([name, { weights }], i) => {
      const { outFeatures, inFeatures } = linearsOf(test)[i].weight;
      const affine = weights as AffineWeights;
      const q = affine.q.map((value, j) => (j % 5 === 0 ? (value + 1) % 4 : value));
      const a = half(uniform(4 * inFeatures, 0.1, 9, i));
      const b = half(uniform(4 * outFeatures, 0.1, 10, i));
      return [name, { weights: { ...affine, q }, lora: { a, b, rank: 4, alpha: 8, magnitude: null } }];
    }),
  );
}

describe("starting from another method's result", () => {
  const still = { epochs: 1, loraLearningRate: 0, clippingLearningRate: 0 };

  for (const method of [apiqBwMethod, apiqLwMethod, omniquantMethod]) {
    it(`${method.name}: without learning, its integers, scales, zeros and LoRA come back`, async () => {
      using context = open();
      const test = smallJob(context, still);
      const init = otherResult(test);
      for (const [name, { weights, lora }] of await method.quantizeBlock({ ...test.job, init })) {
        assertEquals(weights, init.get(name)!.weights, name);
        assertEquals(lora, method === omniquantMethod ? null : init.get(name)!.lora, name);
      }
    });
  }

  it("block-ap: its first loss is that of the given result", async () => {
    using context = open();
    const test = smallJob(context, still);
    const job = { ...test.job, init: otherResult(test) };
    await apiqBwMethod.quantizeBlock(job);
    await blockApMethod.quantizeBlock(job);
    const [expected, received] = test.events.filter(({ step }) => step === 1).map(({ loss }) => loss!);
    assert(Math.abs(received / expected - 1) < 1e-5, `the first loss is ${received}, expected ${expected}`);
    assertLess(0.01, expected);
  });

  it("a LoRA of another alpha is rescaled, one of another rank is refused", async () => {
    using context = open();
    const test = smallJob(context, { ...still, alpha: 4 });
    const init = otherResult(test);
    const results = await apiqBwMethod.quantizeBlock({ ...test.job, init });
    const { a, b } = init.get(nameOf("q"))!.lora;
    const lora = results.get(nameOf("q"))!.lora!;
    assertEquals([lora.a, lora.b, lora.alpha], [a, b.map((value) => 2 * value), 4]);
    const settings = { ...test.job.settings, rank: 8 };
    const message = "Cannot start model.layers.0.self_attn.q_proj from the given LoRA: received rank 4, expected 8";
    await assertRejects(() => apiqBwMethod.quantizeBlock({ ...test.job, settings, init }), Error, message);
  });

  it("DoRA begins with the given magnitude, or with the row norms of the weight; plain LoRA refuses one", async () => {
    using context = open();
    const test = smallJob(context, { ...still, dora: true });
    const init = otherResult(test);
    const norms = (await apiqBwMethod.quantizeBlock({ ...test.job, init })).get(nameOf("q"))!.lora!.magnitude!;
    const { data, outFeatures, inFeatures } = linearsOf(test)[0].weight;
    const w = data!.buffer.download(new Float32Array(outFeatures * inFeatures), data!.offset);
    const first = Math.sqrt(w.subarray(0, inFeatures).reduce((sum, value) => sum + value * value, 0));
    assert(Math.abs(norms[0] / first - 1) < 1e-6);

    const magnitude = norms.map((value) => 2 * value);
    const given = new Map(
      [...init].map(([name, { weights, lora }]) => [name, { weights, lora: { ...lora, magnitude } }]),
    );
    const only = new Set(linearsOf(test).slice(1));
    const results = await apiqBwMethod.quantizeBlock({ ...test.job, kept: only, init: given });
    assertEquals(results.get(nameOf("q"))!.lora!.magnitude, magnitude);
    const settings = { ...test.job.settings, dora: false };
    const message = "received one with DoRA's magnitude, expected none without --dora";
    await assertRejects(() => apiqBwMethod.quantizeBlock({ ...test.job, settings, init: given }), Error, message);
  });

  it("from weights of other bits, training starts from the ranges of the weight less the LoRA", async () => {
    using context = open();
    const test = smallJob(context, { ...still, bits: 3 });
    const init = otherResult(smallJob(context, { ...still, bits: 2 }));
    const results = await apiqBwMethod.quantizeBlock({ ...test.job, init });
    for (const [name, { weights, lora }] of results) {
      assertEquals((weights as AffineWeights).bits, 3);
      assertEquals(lora, init.get(name)!.lora);
    }
    assertLess(test.outputError(results), test.outputError(init));
  });
});
