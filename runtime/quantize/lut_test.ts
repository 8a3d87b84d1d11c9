import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { decodeScales, dequantizeLut, nfTable, quantizeLut, quantizeScales, roundToHalf } from "./lut.ts";

/** NF4 as QLoRA publishes it (appendix E). */
const NF4 = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];

/** Normal numbers, the same every time (Box-Muller over a multiplicative generator). */
function normals(count: number): Float32Array {
  let state = 20;
  const uniform = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

describe("nfTable", () => {
  it("gives NF4 as it is published", () => {
    const table = nfTable(4);
    assertEquals(table.length, 16);
    for (const [i, level] of NF4.entries()) assertAlmostEquals(table[i]!, level, 2e-7, `level ${i}`);
  });

  it("rises from -1 over an exact zero to 1 for all bits", () => {
    for (const bits of [2, 3, 4] as const) {
      const table = nfTable(bits);
      const half = 2 ** (bits - 1);
      assertEquals([table[0], table[half - 1], table[2 * half - 1]], [-1, 0, 1]);
      assert(table.every((level, i) => i === 0 || level > table[i - 1]!));
    }
  });
});

describe("quantizeLut", () => {
  it("takes the nearest entry of every value, whatever the order of the table", () => {
    const table = Float32Array.of(0.5, -1, 2, 0.1, -0.25, 1.2, -3, 0);
    const values = normals(6 * 64);
    const { q, scales, bits } = quantizeLut(values, [6, 64], 32, table);
    assertEquals(bits, 3);
    for (const [i, value] of values.entries()) {
      const scale = scales[Math.floor(i / 32)]!;
      const errors = Array.from(table, (entry) => Math.abs(value - scale * entry));
      assertAlmostEquals(errors[q[i]!]!, Math.min(...errors), 1e-6, `value ${i}`);
    }
  });

  it("keeps the largest magnitude of a group, and zeros, to the precision of float16", () => {
    const values = normals(4 * 128);
    values.fill(0, 128, 192);
    const weights = quantizeLut(values, [4, 128], 64, nfTable(2));
    const back = dequantizeLut(weights);
    assertEquals(back.subarray(128, 192), new Float32Array(64));
    for (let g = 0; g < 8; g++) {
      const group = Array.from(values.subarray(64 * g, 64 * (g + 1)), Math.abs);
      const at = 64 * g + group.indexOf(Math.max(...group));
      assertAlmostEquals(Math.abs(back[at]!), Math.abs(values[at]!), Math.abs(values[at]!) / 2000);
    }
  });

  it("returns what it was given where the values are on the grid", () => {
    for (const bits of [2, 3, 4] as const) {
      const table = nfTable(bits);
      const values = Float32Array.from({ length: 3 * 64 }, (_, i) => 0.75 * table[(i * 7) % table.length]!);
      assertEquals(dequantizeLut(quantizeLut(values, [3, 64], 32, table)), values);
    }
  });

  it("refuses shapes, tables and values it cannot hold", () => {
    const table = nfTable(4);
    const refused = (values: Float32Array, shape: [number, number], message: string, entries = table): void => {
      assertThrows(() => quantizeLut(values, shape, 64, entries), Error, message);
    };
    refused(new Float32Array(64), [2, 64], "received 64 values, expected 2 x 64");
    refused(new Float32Array(96), [1, 96], "received rows of 96, expected a multiple of the group, 64");
    refused(new Float32Array(64), [1, 64], "received a table of 5", new Float32Array(5));
    refused(new Float32Array(64), [1, 64], "received a table of zeros", new Float32Array(4));
    refused(new Float32Array(64), [1, 64], "received NaN in a table", Float32Array.of(0, 1, 2, NaN));
    refused(new Float32Array(64).fill(NaN), [1, 64], "received NaN in group 0");
    refused(new Float32Array(64).fill(1e6), [1, 64], "expected a scale that float16 can hold");
  });
});

describe("double quantization", () => {
  it("is off by at most half a step of each block of 256 scales", () => {
    const scales = normals(600).map((value) => 0.02 + 0.004 * value);
    const double = quantizeScales(scales);
    assertEquals([double.codes.length, double.absmax.length], [600, 3]);
    const back = decodeScales(double);
    for (const [i, scale] of scales.entries()) {
      assertAlmostEquals(back[i]!, scale, (double.absmax[Math.floor(i / 256)]! / 127) * 0.501, `scale ${i}`);
    }
  });

  it("keeps scales that are all alike", () => {
    const scales = new Float32Array(300).fill(0.125);
    assertEquals(decodeScales(quantizeScales(scales)), scales);
  });

  it("chooses codes under the scales that are read back", () => {
    const values = normals(8 * 1024);
    const table = nfTable(3);
    const weights = quantizeLut(values, [8, 1024], 32, table, true);
    assertEquals(weights.scales, roundToHalf(decodeScales(weights.double!)));
    for (const [i, value] of values.entries()) {
      const scale = weights.scales[Math.floor(i / 32)]!;
      const errors = Array.from(table, (entry) => Math.abs(value - scale * entry));
      assertAlmostEquals(errors[weights.q[i]!]!, Math.min(...errors), 1e-6, `value ${i}`);
    }
  });
});
