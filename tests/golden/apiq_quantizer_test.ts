/** The affine quantizer with learned clipping against the ApiQ authors' own: values, parameters and gradients of one matrix. */
import { assert, assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { onEveryIsa } from "../conformance/harness.ts";
import { itShared, sharedPath } from "../shared.ts";
import { readFloats } from "./load.ts";

const GROUP = 64;

/**
 * Relative error of every element, and of the whole in L2. Elements below a hundredth of the largest count relative to that: there
 * the reference's own float32 sums cancel (element 17 of the low factors at 4 bits, 800-fold: 1.2e-4 from its float64 value).
 */
function assertRelative(actual: Float32Array, expected: Float32Array, bound: number, what: string): void {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const [i, value] of expected.entries()) {
    const error = Math.abs(actual[i]! - value) / Math.max(Math.abs(value), largest / 100);
    assert(error <= bound, `${what}: element ${i} is ${actual[i]}, expected ${value} within ${bound}`);
  }
  const distance = Math.hypot(...expected.map((value, i) => actual[i]! - value)) / Math.hypot(...expected);
  assert(distance <= bound / 10, `${what}: relative L2 distance ${distance}`);
}

const bitsOf = (value: number) => new Int32Array(Float32Array.of(value).buffer)[0]!;

/**
 * PyTorch's vectorised exp misses the nearest float32 by one unit for a few arguments in a hundred, ours for one in 10^5. That
 * shows in one scale of 96 at 3 and at 4 bits, by its last bit.
 */
describe("apiq quantizer golden run", () => {
  for (const bits of [2, 3, 4]) {
    itShared(`${bits} bits: scales, zeros and levels equal, gradients of the factors within 1e-4`, () => {
      const path = sharedPath(`golden/apiq/quantizer_b${bits}.safetensors`);
      const { values: weight, shape } = readFloats(path, "weight");
      const [outFeatures, inFeatures] = [shape[0]!, shape[1]!];
      const groups = weight.length / GROUP;
      const golden = (name: string) => readFloats(path, name).values;
      const sizes = { outFeatures, inFeatures, group: GROUP };

      const all = onEveryIsa((bench) => {
        const { context } = bench;
        const [w, low, high] = [bench.f32(weight), bench.room(groups), bench.room(groups)];
        const [scale, zero, y] = [bench.room(groups), bench.room(groups), bench.room(weight.length)];
        const [dscale, dlowFactor, dhighFactor] = [bench.room(groups), bench.room(groups), bench.room(groups)];
        const factors = {
          low,
          high,
          lowFactor: bench.f32(golden("lowbound")),
          highFactor: bench.f32(golden("upbound")),
        };
        context.groupRange({ w, low, high, ...sizes, includeZero: 0 });
        context.clipRange({ ...factors, scale, zero, count: groups, bits, roundScale: 0 });
        context.fakeQuantize({ w, scale, zero, y, q: null, ...sizes, bits, clampZero: 0 });
        const dy = bench.f32(golden("grad_output"));
        const gradients = { dy, dw: null, dscale, dzero: null, edgesInside: 0 };
        context.fakeQuantizeBackward({ w, scale, zero, ...gradients, ...sizes, bits, clampZero: 0 });
        context.clipRangeBackward({ ...factors, dscale, dlowFactor, dhighFactor, count: groups, bits });
        const parts = [y, scale, zero, dlowFactor, dhighFactor];
        const read = parts.map((ref) => bench.read(ref, ref === y ? weight.length : groups));
        return Float32Array.from(read.flatMap((part) => [...part]));
      });
      const part = (index: number) => all.slice(weight.length + index * groups, weight.length + (index + 1) * groups);

      const [scale, expectedScale] = [part(0), golden("scale")];
      const [y, expectedY] = [all.slice(0, weight.length), golden("dequantized")];
      const apart = [...scale.keys()].filter((g) => scale[g] !== expectedScale[g]);
      assert(apart.length <= 1, `${apart.length} of ${groups} scales differ from the reference's`);
      for (let g = 0; g < groups; g++) {
        assert(
          Math.abs(bitsOf(scale[g]!) - bitsOf(expectedScale[g]!)) <= 1,
          `scale ${g}: ${scale[g]}, ${expectedScale[g]}`,
        );
        // Whole levels above the zero: what is stored of a weight.
        const levels = (values: Float32Array, by: number) => {
          return values.slice(g * GROUP, (g + 1) * GROUP).map((value) => Math.round(value / by));
        };
        assertEquals(levels(y, scale[g]!), levels(expectedY, expectedScale[g]!));
        if (!apart.includes(g))
          assertEquals(y.slice(g * GROUP, (g + 1) * GROUP), expectedY.slice(g * GROUP, (g + 1) * GROUP));
      }
      assertEquals(part(1), golden("zero"));
      assertRelative(part(2), golden("grad_lowbound"), 1e-4, "gradient of the low factor");
      assertRelative(part(3), golden("grad_upbound"), 1e-4, "gradient of the high factor");
    });
  }
});
