import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  ApiqError,
  BF16,
  F16,
  F32,
  GPTQ_V2,
  type Ref,
  WEIGHT_AFFINE,
  WEIGHT_DENSE,
  type Weight,
  ZERO_FLOAT,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import { assertSameBits, Bench, onEveryIsa, Random } from "./harness.ts";

const dense = (data: Ref, dtype: number, entries: number, width: number): Weight => ({
  data,
  kind: WEIGHT_DENSE,
  dtype,
  bits: 0,
  group: 0,
  zero: 0,
  outFeatures: entries,
  inFeatures: width,
});

/** The upper halves of float32 numbers, and the numbers that these stand for. */
function throughBf16(values: Float32Array): { stored: Uint16Array; exact: Float32Array } {
  const stored = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
  return { stored, exact: new Float32Array(Uint32Array.from(stored, (half) => half * 65536).buffer) };
}

describe("embedding", () => {
  it("gathers rows of dense tables exactly", () => {
    const entries = 50;
    const ids = [0, 49, 7, 7, 23];
    for (const width of [1, 16, 31, 576]) {
      const table = new Random(width).normals(entries * width);
      const bf16 = throughBf16(table);
      const half = Float16Array.from(table);
      const kinds: [number, ArrayBufferView, ArrayLike<number>][] = [
        [F32, table, table],
        [F16, half, half],
        [BF16, bf16.stored, bf16.exact],
      ];
      for (const [dtype, stored, exact] of kinds) {
        const y = onEveryIsa((bench) => {
          const result = bench.room(ids.length * width);
          const weight = dense(bench.put(stored), dtype, entries, width);
          bench.context.embedding({ table: weight, ids: bench.i32(ids), y: result, rows: ids.length });
          return bench.read(result, ids.length * width);
        });
        const expected = ids.flatMap((id) => Array.from({ length: width }, (_, i) => exact[id * width + i]!));
        assertEquals([...y], expected);
      }
    }
  });

  it("gathers rows of packed tables as weightDequantize gives them", () => {
    const [entries, width, group] = [40, 96, 32];
    for (const bits of [2, 3, 4, 8]) {
      for (const zero of [ZERO_INTEGER, ZERO_FLOAT]) {
        const random = new Random(bits);
        const words = (count: number) => Int32Array.from({ length: count }, () => random.integer(2 ** 32) | 0);
        const halves = () => Float16Array.from(random.normals((width / group) * entries, 0.1));
        const qweight = words(((width * bits) / 32) * entries);
        const zeros = zero === ZERO_FLOAT ? halves() : words((width / group) * Math.ceil((entries * bits) / 32));
        const scales = halves();
        const ids = [39, 0, 17];
        onEveryIsa((bench) => {
          const shape = { kind: WEIGHT_AFFINE, dtype: 0, bits, group, zero, outFeatures: entries, inFeatures: width };
          const table: Weight = { ...shape, data: bench.context.alloc(bench.context.packedBytes(shape)).at(0) };
          bench.context.weightRepack({
            qweight: bench.put(qweight),
            zeros: bench.put(zeros),
            scales: bench.put(scales),
            weight: table,
            format: GPTQ_V2,
            releaseSource: 0,
            table: null,
          });
          const all = bench.room(entries * width);
          bench.context.weightDequantize({ weight: table, y: all, firstRow: 0, nRows: entries });
          const matrix = bench.read(all, entries * width);
          const result = bench.room(ids.length * width);
          bench.context.embedding({ table, ids: bench.i32(ids), y: result, rows: ids.length });
          const rows = bench.read(result, ids.length * width);
          ids.forEach((id, row) => {
            const [actual, expected] = [
              rows.subarray(row * width, (row + 1) * width),
              matrix.subarray(id * width, (id + 1) * width),
            ];
            assertSameBits(actual, expected, `${bits} bits, zero ${zero}, id ${id}`);
          });
          return rows;
        });
      }
    }
  });

  it("writes zeros for ids outside the table and reports the first", () => {
    const table = new Random(1).normals(12);
    for (const id of [-1, 3, 2 ** 31 - 1, -(2 ** 31)]) {
      using bench = new Bench();
      const y = bench.room(8);
      bench.context.embedding({ table: dense(bench.f32(table), F32, 3, 4), ids: bench.i32([2, id]), y, rows: 2 });
      const error = assertThrows(() => bench.context.synchronize(), ApiqError);
      assertEquals(error.status, "OUT_OF_RANGE");
      assertStringIncludes(error.message, `row 1: received id ${id}, expected 0 to 2`);
      assertEquals([...bench.read(y, 8)], [...table.slice(8), 0, 0, 0, 0]);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const table = dense(bench.room(12), F32, 3, 4);
    const good = { table, ids: bench.i32([1]), y: bench.room(4), rows: 1 };
    bench.context.embedding(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      const error = assertThrows(() => bench.context.embedding({ ...good, ...bad }), ApiqError);
      assertEquals(error.status, status, error.message);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ rows: 2 }, "OUT_OF_RANGE");
    refused({ table: { ...table, outFeatures: 4 } }, "OUT_OF_RANGE");
    refused({ table: { ...table, dtype: 7 } }, "INVALID_ARGUMENT");
    refused({ table: { ...table, kind: 9 } }, "INVALID_ARGUMENT");
  });
});
