import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  bfloatsToFloats,
  floatsToBfloats,
  floatsToHalves,
  floatToHalf,
  halfToFloat,
  halvesToFloats,
} from "./floats.ts";

describe("float16", () => {
  it("comes back unchanged for every value that is a number", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = halfToFloat(bits);
      if (Number.isNaN(value)) assert(Number.isNaN(halfToFloat(floatToHalf(value))));
      else assertEquals(floatToHalf(value), bits);
    }
  });

  it("has the values of IEEE binary16", () => {
    assertEquals([0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0xfc00].map(halfToFloat), [
      1,
      -2,
      2 ** -24,
      1023 * 2 ** -24,
      2 ** -14,
      65504,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
    ]);
    assert(Object.is(halfToFloat(0x8000), -0));
    assert(Number.isNaN(halfToFloat(0x7e01)));
  });

  it("rounds to nearest, ties to even, everywhere between two neighbours", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const low = halfToFloat(bits);
      const high = halfToFloat(bits + 1);
      const step = high - low;
      assertEquals(floatToHalf(low + step / 2), bits + (bits & 1), `tie above ${low}`);
      assertEquals(floatToHalf(low + step * 0.4990234375), bits, `just below the tie above ${low}`);
      assertEquals(floatToHalf(-(low + step * 0.5009765625)), 0x8000 | (bits + 1), `just above the tie above ${low}`);
    }
  });

  it("overflows to infinity from halfway past the largest value", () => {
    assertEquals([65519.99, 65520, 1e30, -1e30].map(floatToHalf), [0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    assertEquals([2 ** -25, 2 ** -25 * 1.001, -1e-30].map(floatToHalf), [0, 1, 0x8000]);
  });

  it("converts whole arrays, also those that begin inside a buffer", () => {
    const bits = Uint16Array.of(9, 0x3c00, 0xc000, 0x7c00).subarray(1);
    assertEquals(halvesToFloats(bits), Float32Array.of(1, -2, Number.POSITIVE_INFINITY));
    assertEquals(floatsToHalves(Float32Array.of(9, 1, -2, 1e9).subarray(1)), bits.slice());
  });
});

describe("bfloat16", () => {
  it("rounds to nearest, ties to even, and keeps infinities and NaN", () => {
    const word = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
    const round = (...bits: number[]) => [...floatsToBfloats(Float32Array.from(bits, word))];
    assertEquals(round(0x3f807fff, 0x3f808000, 0x3f808001), [0x3f80, 0x3f80, 0x3f81]);
    assertEquals(round(0x3f817fff, 0x3f818000, 0xbf818000), [0x3f81, 0x3f82, 0xbf82]);
    assertEquals(round(0x7f7f8000, 0x7f800000, 0xff800000, 0x80000000), [0x7f80, 0x7f80, 0xff80, 0x8000]);
    assertEquals(bfloatsToFloats(floatsToBfloats(Float32Array.of(Number.NaN)))[0], Number.NaN);
  });

  it("is the upper half of a float32", () => {
    const bits = Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001);
    assertEquals(bfloatsToFloats(bits), Float32Array.of(1, -2, Number.POSITIVE_INFINITY, 2 ** -133));
  });
});
