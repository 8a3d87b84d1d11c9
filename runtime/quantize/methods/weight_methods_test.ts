import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../../ffi/mod.ts";
import { blockLinears } from "../../models/weights.ts";
import { readDense } from "../dense.ts";
import type { AffineWeights, BlockJob, MethodSettings, QuantizedLinear } from "../method.ts";
import { uniformNumbers } from "../random.ts";
import { ERROR_BOUND, fineMethod, relativeError } from "./fine.ts";
import { loftqMethod } from "./loftq.ts";
import { rtnMethod } from "./rtn.ts";
import { effectiveWeights, normals, testJob } from "./test_job.ts";

/** |W - Q - B A|^2 of every linear. */
function weightErrors(job: BlockJob, result: ReadonlyMap<string, QuantizedLinear>): number[] {
  return blockLinears(job.block).map((linear) => {
    const original = readDense(linear);
    return effectiveWeights(linear, result.get(linear.name)!).reduce((sum, x, i) => sum + (x - original[i]!) ** 2, 0);
  });
}

describe("loftq", () => {
  it("comes nearer to the weights than rounding to nearest, and no farther with more turns", async () => {
    for (const base of ["affine", "nf"] as const) {
      for (const bits of [2, 4] as const) {
        using context = Context.open({ threads: 2 });
        const settings = { bits, base, rank: 16, group: 64 } as const;
        const { job } = testJob(context, settings);
        let before = weightErrors(
          job,
          await loftqMethod.quantizeBlock({ ...job, settings: { ...job.settings, rank: 0 } }),
        );
        if (base === "affine") assertEquals(before, weightErrors(job, await rtnMethod.quantizeBlock(job)));
        const ratios: number[] = [];
        for (const iterations of [1, 3, 5]) {
          const errors = weightErrors(
            job,
            await loftqMethod.quantizeBlock({ ...job, settings: { ...job.settings, iterations } }),
          );
          for (const [i, error] of errors.entries()) {
            assert(error <= before[i]!, `${base}, ${bits} bits, T ${iterations}: ${error}, before ${before[i]}`);
          }
          ratios.push(errors.reduce((a, b) => a + b) / before.reduce((a, b) => a + b));
          before = errors;
        }
        assert(ratios[0]! < 0.8, `${base}, ${bits} bits: ${ratios}`);
        if (bits === 2) assert(ratios[1]! < 0.97, `${base}, ${bits} bits: ${ratios}`);
      }
    }
  });

  it("stores float16 factors at scale 1, balanced, and the family of its base", async () => {
    using context = Context.open({ threads: 2 });
    for (const [base, doubleQuantization, family] of [
      ["affine", false, "affine"],
      ["nf", false, "lut"],
      ["nf", true, "lut"],
    ] as const) {
      const { job, events } = testJob(context, { bits: 3, base, doubleQuantization, rank: 8, iterations: 2 });
      const result = await loftqMethod.quantizeBlock(job);
      for (const { weights, lora } of result.values()) {
        assertEquals(weights.family, family);
        if (weights.family === "lut") assertEquals(weights.double !== null, doubleQuantization);
        assertEquals([lora!.rank, lora!.alpha], [8, 8]);
        for (const matrix of [lora!.a, lora!.b]) assert(matrix.every((value) => value === Math.f16round(value)));
      }
      assertEquals(events.length, 14);
      assertEquals(events.at(-1)!.epoch, 2);
      assert(events.at(-1)!.loss! > 0);
    }
  });

  it("goes on from the LoRA of another result", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, { bits: 2, rank: 16, iterations: 1 });
    const first = await loftqMethod.quantizeBlock(job);
    const second = await loftqMethod.quantizeBlock({ ...job, init: first });
    const [before, after] = [first, second].map((result) => weightErrors(job, result).reduce((a, b) => a + b));
    assert(after! < 0.98 * before!, `${after} after ${before}`);
    // Half the LoRA at twice the scale is the same beginning.
    const halved = new Map(
      [...first].map(([name, { weights, lora }]) => [
        name,
        { weights, lora: { ...lora!, a: lora!.a.map((x) => x / 2), alpha: 2 * lora!.alpha } },
      ]),
    );
    assertEquals(await loftqMethod.quantizeBlock({ ...job, init: halved }), second);
  });

  it("reproduces matrices smaller than the rank, within the float16 of its factors", async () => {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, { bits: 2, rank: 160, iterations: 1 });
    const errors = weightErrors(job, await loftqMethod.quantizeBlock(job));
    for (const [i, { weight }] of blockLinears(job.block).entries()) {
      const relative = errors[i]! / weight.outFeatures;
      assert(relative < 1e-5, `${i}: ${relative}`);
    }
  });

  it("gives the same result on any number of threads, and another for another seed", async () => {
    const results: Map<string, QuantizedLinear>[] = [];
    for (const [threads, seed] of [
      [1, 5],
      [2, 5],
      [2, 6],
    ] as const) {
      using context = Context.open({ threads });
      results.push(await loftqMethod.quantizeBlock(testJob(context, { bits: 2, rank: 8, seed }).job));
    }
    assertEquals(results[0], results[1]);
    const [name] = results[0]!.keys();
    assert(results[2]!.get(name!)!.lora!.a.some((x, i) => x !== results[0]!.get(name!)!.lora!.a[i]));
  });
});

describe("fine", () => {
  const tailless = (count: number): Float32Array => Float32Array.from({ length: count }, uniformNumbers(count));

  /** The groups chosen for the block of `testJob` with `change` made to its weights. */
  async function chosen(settings: Partial<MethodSettings>, change: (name: string, values: Float32Array) => void) {
    using context = Context.open({ threads: 2 });
    const { job } = testJob(context, settings);
    for (const linear of blockLinears(job.block)) {
      const values = readDense(linear);
      change(linear.name, values);
      linear.weight.data!.buffer.upload(values);
    }
    const result = await fineMethod.quantizeBlock(job);
    const weights = blockLinears(job.block).map(
      (linear) => [linear, result.get(linear.name)!.weights as AffineWeights] as const,
    );
    const errors = weights.map(([linear, quantized]) => relativeError(linear, quantized) * (2 ** quantized.bits - 1));
    return { groups: weights.map(([, { group }]) => group), errors };
  }

  it("halves the group until the error is below the bound, or the group is 32", async () => {
    for (const bits of [2, 3, 4, 8] as const) {
      const { groups, errors } = await chosen({ bits, group: 128 }, (name, values) => {
        // Uniform weights have no tails at all; a few large ones among normal weights need the smallest groups.
        if (name.includes("gate") || name.includes("up")) values.set(tailless(values.length));
        if (name.includes("o_proj")) values.set(normals(values.length, 0.1, 77));
        if (name.includes("down")) for (let i = 0; i < values.length; i += 24) values[i] = values[i]! * 12;
      });
      assertEquals([...groups.slice(4, 7)], [128, 128, 32], `${bits} bits: ${groups}; ${errors}`);
      assert(
        errors.every((error, i) => error <= ERROR_BOUND || groups[i] === 32),
        `${bits} bits: ${groups}; ${errors}`,
      );
    }
  });

  it("gives linears that share their input the group that the worst of them needs", async () => {
    const { groups } = await chosen({ bits: 4, group: 128 }, (name, values) => {
      values.set(tailless(values.length));
      if (name.includes("v_proj")) for (let i = 0; i < values.length; i += 40) values[i] = 9;
    });
    assertEquals(groups, [32, 32, 32, 128, 128, 128, 128]);
  });

  it("begins with the group it is given", async () => {
    const { groups } = await chosen({ bits: 4, group: 64 }, (_, values) => values.set(tailless(values.length)));
    assertEquals(groups, [64, 64, 64, 64, 64, 64, 64]);
  });
});
