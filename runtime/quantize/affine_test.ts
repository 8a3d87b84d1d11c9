import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { dequantizeAffine, minMaxQuantize, readAffine } from "./affine.ts";
import type { AffineWeights } from "./method.ts";
import { uniform } from "./random.ts";

const OUT = 3;
const IN = 96;

/** Groups of 32: both signs, only positive, only negative, zeros, and very small ones. */
function weights(): Float32Array {
  const values = uniform(OUT * IN, 1, 1);
  values.subarray(32, 64).forEach((value, i, group) => {
    group[i] = 2 + value;
  });
  values.subarray(64, 96).forEach((value, i, group) => {
    group[i] = value - 2;
  });
  values.fill(0, 96, 128);
  values.subarray(128, 160).forEach((value, i, group) => {
    group[i] = value * 1e-6;
  });
  return values;
}

describe("affine weights", () => {
  for (const bits of [2, 3, 4, 8] as const) {
    it(`min-max at ${bits} bits: what comes back is within half a step, and groups of one sign include 0`, () => {
      using context = Context.open({ device: "cpu", threads: 1 });
      const values = weights();
      const buffer = context.alloc(values.byteLength);
      buffer.upload(values);
      const parts = minMaxQuantize(context, buffer.at(0), OUT, IN, bits, 32);
      const last = 2 ** bits - 1;
      assert(parts.q.every((value) => value <= last));
      assert(parts.zeros.every((zero) => Number.isInteger(zero) && zero >= 0 && zero <= last));
      assertEquals(parts.scales, new Float32Array(new Float16Array(parts.scales)));
      assertEquals([parts.zeros[1], parts.zeros[2]], [0, last]);
      const back = dequantizeAffine({ family: "affine", bits, group: 32, zero: "integer", ...parts });
      for (const [i, value] of back.entries()) {
        const step = parts.scales[Math.floor(i / 32)];
        // A scale rounded to float16 moves the ends of the range by up to 2^-11 of it; a rounded zero by half a step.
        const bound = step * (0.5 + 0.5 + last * 2 ** -11);
        assertLessOrEqual(Math.abs(value - values[i]), bound, `weight ${i}`);
      }
      assert(back.subarray(96, 128).every((value) => value === 0));
    });
  }

  it("reading rounds zeros halves to even and clamps them, and quantizes under what it gives", () => {
    using context = Context.open({ device: "cpu", threads: 1 });
    const w = context.alloc(4 * 32 * 4);
    w.upload(uniform(4 * 32, 1, 2));
    const parameters = context.alloc(2 * 4 * 4);
    parameters.upload(new Float32Array([0.5, 0.5, 0.5, 0.5, 1.5, 2.5, -3, 9]));
    const shape = { outFeatures: 4, inFeatures: 32, bits: 2, group: 32 } as const;
    const read = readAffine(context, w.at(0), { scale: parameters.at(0), zero: parameters.at(16) }, shape);
    assertEquals([...read.zeros], [2, 2, 0, 3]);
    const values = w.download(new Float32Array(4 * 32));
    for (const [i, q] of read.q.entries()) {
      const zero = read.zeros[Math.floor(i / 32)];
      const exact = values[i] / 0.5 + zero;
      const clamped = Math.min(Math.max(exact, 0), 3);
      assertLessOrEqual(Math.abs(q - clamped), 0.5, `integer ${i}`);
    }
  });

  it("dequantizes integer and float zeros as the formats define them", () => {
    const shared = { family: "affine", bits: 2, group: 32, q: new Uint8Array(32).map((_, i) => i % 4) } as const;
    const scales = new Float32Array([0.25]);
    const integer: AffineWeights = { ...shared, scales, zero: "integer", zeros: new Float32Array([2]) };
    assertEquals([...dequantizeAffine(integer).subarray(0, 4)], [-0.5, -0.25, 0, 0.25]);
    const float: AffineWeights = { ...shared, scales, zero: "float", zeros: new Float32Array([-0.375]) };
    assertEquals([...dequantizeAffine(float).subarray(0, 4)], [-0.375, -0.125, 0.125, 0.375]);
  });
});
