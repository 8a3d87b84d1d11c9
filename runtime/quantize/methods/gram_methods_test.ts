import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../../ffi/mod.ts";
import type { DecoderConfig } from "../../models/config.ts";
import { blockLinears } from "../../models/weights.ts";
import { dequantizeAffine } from "../affine.ts";
import { readDense } from "../dense.ts";
import { GramCollector } from "../gram.ts";
import type { AffineWeights, QuantizedLinear } from "../method.ts";
import { walkLinears } from "../optq.ts";
import { cloqMethod } from "./cloq.ts";
import { gptqMethod } from "./gptq.ts";
import { loftqMethod } from "./loftq.ts";
import { rtnMethod } from "./rtn.ts";
import { effectiveWeights, type TestJob, testJob } from "./test_job.ts";

/** Sum of d H d^T over the rows d of W - Q of the query projection: how much its outputs differ on the calibration data. */
async function queryError({ job }: TestJob, quantized: QuantizedLinear): Promise<number> {
  const linear = job.block.q;
  const n = linear.weight.inFeatures;
  using collector = new GramCollector(job);
  using gram = job.context.alloc(n * n * 4);
  await collector.collect([linear], gram, () => Promise.resolve());
  const h = gram.download(new Float32Array(n * n));
  const original = readDense(linear);
  const delta = effectiveWeights(linear, quantized).map((value, i) => value - original[i]!);
  let sum = 0;
  for (let r = 0; r < delta.length; r += n) {
    for (let i = 0; i < n; i++) {
      let dot = 0;
      for (let j = 0; j < n; j++) dot += h[Math.min(i, j) * n + Math.max(i, j)]! * delta[r + j]!;
      sum += dot * delta[r + i]!;
    }
  }
  return sum;
}

describe("GramCollector", () => {
  it("gives 2/n X^T X of the inputs that the block's linears see", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, {});
    const { inputs } = job.calibration!;
    const n = inputs.hidden;
    using collector = new GramCollector(job);
    using gram = context.alloc(n * n * 4);
    await collector.collect([job.block.k], gram, () => Promise.resolve());
    const h = gram.download(new Float32Array(n * n));
    const norm = job.block.inputNorm.weight;
    const weight = norm.buffer.download(new Float32Array(n), norm.offset);
    const expected = new Float64Array(n * n);
    for (let s = 0; s < inputs.samples; s++) {
      const { buffer, offset } = inputs.read(s);
      const x = buffer.download(new Float32Array(inputs.length * n), offset);
      for (let t = 0; t < inputs.length; t++) {
        const row = x.subarray(t * n, (t + 1) * n);
        const size = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / n + job.config.rmsNormEps);
        const normed = row.map((value, i) => (value / size) * weight[i]!);
        for (let i = 0; i < n; i++) {
          for (let j = 0; j < n; j++) expected[i * n + j] = expected[i * n + j]! + 2 * normed[i]! * normed[j]!;
        }
      }
    }
    for (let i = 0; i < n * n; i++) {
      if (i % n < Math.floor(i / n)) continue;
      assert(Math.abs(h[i]! - expected[i]! / (inputs.samples * inputs.length)) < 1e-5, `${i}: ${h[i]}`);
    }
  });

  it("sees replaced weights and their LoRA in the groups after them", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, {});
    const { v, o } = job.block;
    const n = o.weight.inFeatures;
    const gramOf = async (collector: GramCollector): Promise<Float32Array> => {
      using gram = context.alloc(n * n * 4);
      await collector.collect([o], gram, () => Promise.resolve());
      return gram.download(new Float32Array(n * n));
    };
    using collector = new GramCollector(job);
    const before = await gramOf(collector);
    // Twice the values: half of them as weights, the rest as a LoRA of full rank.
    const values = readDense(v);
    const { outFeatures: out, inFeatures: into } = v.weight;
    const a = new Float32Array(job.settings.rank * into);
    const b = new Float32Array(out * job.settings.rank);
    a.set(values.map((value) => Math.f16round(value)));
    for (let r = 0; r < out; r++) b[r * job.settings.rank + r] = 1;
    const lora = { a, b, rank: job.settings.rank, alpha: job.settings.rank, magnitude: null };
    collector.replace(v, { weights: { family: "dense", values }, lora });
    const after = await gramOf(collector);
    for (let i = 0; i < n * n; i++) {
      if (i % n < Math.floor(i / n)) continue;
      assert(Math.abs(after[i]! - 4 * before[i]!) < 0.01 * Math.abs(before[i]!) + 0.005, `${i}`);
    }
  });
});

describe("gptq", () => {
  it("stores integers in range and float16 scales, and leaves the block as it was", async () => {
    for (const [bits, group] of [
      [2, 64],
      [3, 32],
      [4, 128],
      [8, 64],
    ] as const) {
      using context = Context.open({ threads: 2 });
      const { job, events } = testJob(context, { bits, group });
      const before = blockLinears(job.block).map(readDense);
      const result = await gptqMethod.quantizeBlock(job);
      assertEquals(blockLinears(job.block).map(readDense), before);
      assertEquals(
        [...result.keys()],
        blockLinears(job.block).map(({ name }) => name),
      );
      for (const { weights, lora } of result.values()) {
        const { q, scales, zeros } = weights as AffineWeights;
        assertEquals([weights.family, lora], ["affine", null]);
        assert(
          q.every((code) => code < 2 ** bits) &&
            zeros.every((zero) => zero >= 0 && zero < 2 ** bits && Number.isInteger(zero)),
        );
        assert(scales.every((scale) => scale > 0 && scale === Math.f16round(scale)));
      }
      assert(events.every(({ step, steps }, i) => steps === events[0]!.steps && step === i && step < steps));
      assertEquals(events.length, events[0]!.steps);
    }
  });

  it("has less error in a layer's output than rounding to nearest, at every width", async () => {
    for (const bits of [2, 3, 4] as const) {
      using context = Context.open({ threads: 2 });
      const test = testJob(context, { bits, group: 64 });
      const [gptq, rtn] = [await gptqMethod.quantizeBlock(test.job), await rtnMethod.quantizeBlock(test.job)];
      for (const part of ["q"] as const) {
        const { name } = test.job.block[part];
        const [less, more] = [await queryError(test, gptq.get(name)!), await queryError(test, rtn.get(name)!)];
        assert(less < 0.6 * more, `${part} at ${bits} bits: ${less}, rounding to nearest ${more}`);
      }
      const [less, more] = [test.outputError(gptq), test.outputError(rtn)];
      assert(less < 0.7 * more, `block at ${bits} bits: ${less}, rounding to nearest ${more}`);
    }
  });

  it("works on what the quantized linears before it give, unless told otherwise", async () => {
    using context = Context.open({ threads: 2 });
    const test = testJob(context, { bits: 2, group: 64 });
    const dead: number[][] = [];
    for (const sequential of [true, false]) {
      const counts: number[] = [];
      await walkLinears(
        test.job,
        (linear, factor) => {
          counts.push(factor.dead.length);
          const { outFeatures, inFeatures } = linear.weight;
          return { weights: { family: "dense", values: new Float32Array(outFeatures * inFeatures) }, lora: null };
        },
        { sequential },
      );
      dead.push(counts);
    }
    // With v zeroed nothing reaches o; with gate and up zeroed nothing reaches down.
    assertEquals(dead[0], [0, 0, 0, 128, 0, 0, 256]);
    assertEquals(dead[1], [0, 0, 0, 0, 0, 0, 0]);
  });

  it("gives inputs that are never used weights of zero, and the others finite ones", async () => {
    using context = Context.open({ threads: 2 });
    const { job, outputError } = testJob(context, { bits: 4, group: 64 }, { deadInput: 17 });
    const result = await gptqMethod.quantizeBlock(job);
    const { name, weight } = job.block.q;
    const values = dequantizeAffine(result.get(name)!.weights as AffineWeights);
    assert(values.every(Number.isFinite));
    for (let r = 0; r < weight.outFeatures; r++) assertEquals(values[r * weight.inFeatures + 17], 0);
    assert(outputError(result) < 0.05);
  });

  it("leaves kept linears out", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, { bits: 4 }, { keep: ["q_proj", "k_proj", "v_proj", "down_proj"] });
    const names = [...(await gptqMethod.quantizeBlock(job)).keys()].map((name) => name.split(".").at(-1));
    assertEquals(names, ["o_proj", "gate_proj", "up_proj"]);
  });

  it("raises the damping of a matrix without a factor, and says so", async () => {
    using context = Context.open({ threads: 2 });
    const { job, events } = testJob(
      context,
      { bits: 4, damping: 0 },
      { samples: 1, keep: ["o_proj", "gate_proj", "up_proj", "down_proj"] },
    );
    await gptqMethod.quantizeBlock(job);
    assert(
      events.some(({ part }) => part?.includes("(damping 0.000")),
      events.map(({ part }) => part).join("; "),
    );
  });

  it("gives the same result on every run and any number of threads", async () => {
    const results: unknown[] = [];
    for (const threads of [1, 2]) {
      using context = Context.open({ threads });
      results.push(await gptqMethod.quantizeBlock(testJob(context, { bits: 3 }).job));
    }
    assertEquals(results[0], results[1]);
  });
});

describe("cloq", () => {
  it("has less error than gptq, in a layer and in the block, and less with a higher rank", async () => {
    using context = Context.open({ threads: 2 });
    const test = testJob(context, { bits: 2, group: 64 });
    const { name } = test.job.block.q;
    const gptq = await gptqMethod.quantizeBlock(test.job);
    let layer = await queryError(test, gptq.get(name)!);
    let block = test.outputError(gptq);
    for (const rank of [4, 32]) {
      const { job } = testJob(context, { bits: 2, group: 64, rank });
      const cloq = await cloqMethod.quantizeBlock(job);
      const [layerNow, blockNow] = [await queryError(test, cloq.get(name)!), test.outputError(cloq)];
      assert(layerNow < 0.85 * layer, `layer at rank ${rank}: ${layerNow} after ${layer}`);
      assert(blockNow < 0.9 * block, `block at rank ${rank}: ${blockNow} after ${block}`);
      [layer, block] = [layerNow, blockNow];
    }
  });

  it("finds the LoRA that no other of its rank beats on the same base", async () => {
    using context = Context.open({ threads: 2 });
    const test = testJob(context, { bits: 2, group: 64, rank: 8 });
    const { name } = test.job.block.q;
    const quantized = (await cloqMethod.quantizeBlock(test.job)).get(name)!;
    const best = await queryError(test, quantized);
    const { a, b } = quantized.lora!;
    for (let i = 0; i < 6; i++) {
      const change = (values: Float32Array): Float32Array =>
        values.map((value, k) => value * (1 + 0.05 * Math.sin(k * (i + 1))));
      const other = { ...quantized, lora: { ...quantized.lora!, a: change(a), b: i % 2 ? b : change(b) } };
      assert((await queryError(test, other)) > best);
    }
  });

  it("makes its LoRA over the weights of the result it begins with, of any family", async () => {
    using context = Context.open({ threads: 2 });
    const test = testJob(context, { bits: 2, rank: 16, base: "nf", iterations: 1 });
    const init = await loftqMethod.quantizeBlock(test.job);
    const result = await cloqMethod.quantizeBlock({ ...test.job, init });
    for (const [name, { weights }] of result) assertEquals(weights, init.get(name)!.weights);
    const { name } = test.job.block.q;
    const [less, more] = [await queryError(test, result.get(name)!), await queryError(test, init.get(name)!)];
    assert(less < 0.7 * more, `${less}, with LoftQ's LoRA ${more}`);
  });

  it("works on every family's block", async () => {
    for (const shape of [
      {
        rope: {
          theta: 5e5,
          scaling: { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 },
        },
      },
      { windows: [20] },
      { qkvBias: true },
      { qkNorm: true, headDim: 64 },
      { qkvBias: true, outputBias: true, mlpBias: true, kvHeads: 4 },
    ] satisfies Partial<DecoderConfig>[]) {
      using context = Context.open({ threads: 2 });
      const test = testJob(context, { bits: 2, rank: 16 }, { shape });
      const [cloq, gptq] = [await cloqMethod.quantizeBlock(test.job), await gptqMethod.quantizeBlock(test.job)];
      const errors = [cloq, gptq, await rtnMethod.quantizeBlock(test.job)].map(test.outputError);
      assert(errors[0]! < 0.8 * errors[1]! && errors[1]! < 0.8 * errors[2]!, `${JSON.stringify(shape)}: ${errors}`);
    }
  });

  it("balances the factors, with a scale of 1", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, { bits: 2, rank: 8, alpha: 16 });
    for (const { lora } of (await cloqMethod.quantizeBlock(job)).values()) {
      const { a, b, rank, alpha } = lora!;
      assertEquals([rank, alpha], [8, 8]);
      for (let i = 0; i < rank; i++) {
        const right = Math.hypot(...a.subarray((i * a.length) / rank, ((i + 1) * a.length) / rank));
        const left = Math.hypot(...b.filter((_, k) => k % rank === i));
        assert(right > 0 && Math.abs(left / right - 1) < 1e-5);
      }
    }
  });

  it("is gptq without a LoRA at rank 0, and the same on any number of threads", async () => {
    const results: unknown[] = [];
    for (const threads of [1, 2]) {
      using context = Context.open({ threads });
      results.push(await cloqMethod.quantizeBlock(testJob(context, { bits: 3, rank: 5 }).job));
    }
    assertEquals(results[0], results[1]);
    using context = Context.open();
    const { job } = testJob(context, { bits: 3, rank: 0 });
    assertEquals(await cloqMethod.quantizeBlock(job), await gptqMethod.quantizeBlock(job));
  });
});
