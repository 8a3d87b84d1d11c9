import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  ACTIVATIONS_F32,
  ACTIVATIONS_INT8,
  ApiqError,
  F16,
  GPTQ_V1,
  type WeightRepackArgs,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import { assertSameBits, Bench, isas, onEveryIsa, Random } from "./harness.ts";
import { AffineMatrix, assertRounded, DenseMatrix, multiply, runLinear } from "./linear_problem.ts";
import { LutMatrix } from "./lut_problem.ts";

const BITS = [2, 3, 4] as const;
const GROUPS = [32, 64, 128] as const;

/** Roundings between an exact sum and an output: a column of the longer partial sum each, a group each, the bias. */
const roundings = (group: number, groups: number) => group / 2 + groups + 4;

const random = new Random(11);

describe("a matrix of table entries", () => {
  for (const bits of BITS) {
    it(`dequantises to scale * table[q], rounded once, at ${bits} bits`, () => {
      for (const group of GROUPS) {
        for (const [outFeatures, groups] of [
          [1, 1],
          [15, 2],
          [17, 3],
          [100, 5],
        ] as const) {
          const matrix = new LutMatrix({ bits, group, outFeatures, inFeatures: groups * group }, random);
          const expected = Float32Array.from(matrix.weights());
          const actual = onEveryIsa((bench) => {
            const y = bench.room(expected.length);
            bench.context.weightDequantize({ weight: matrix.pack(bench), y, firstRow: 0, nRows: outFeatures });
            return bench.read(y, expected.length);
          });
          assertSameBits(actual, expected, `${outFeatures} x ${groups} groups of ${group}`);
        }
      }
    });

    for (const group of GROUPS) {
      it(`multiplies right at ${bits} bits and groups of ${group} over ragged shapes, the same in both modes`, () => {
        for (const [outFeatures, groups, rows] of [
          [1, 1, 1],
          [15, 3, 2],
          [17, 2, 5],
          [100, 5, 15],
          [31, 3, 70],
        ] as const) {
          const inFeatures = groups * group;
          const matrix = new LutMatrix({ bits, group, outFeatures, inFeatures }, random);
          const x = random.normals(rows * inFeatures);
          const bias = random.normals(outFeatures);
          const run = (activations: number) =>
            onEveryIsa((bench) => runLinear(bench, x, inFeatures, activations, [{ weight: matrix.pack(bench), bias }]));
          const y = run(ACTIVATIONS_F32);
          assertRounded(y, multiply(x, matrix.weights(), inFeatures, bias), roundings(group, groups));
          assertSameBits(run(ACTIVATIONS_INT8), y, "int8 activations, which do not count");
        }
      });
    }

    it(`looks embeddings up at ${bits} bits as weightDequantize gives them`, () => {
      const matrix = new LutMatrix({ bits, group: 32, outFeatures: 40, inFeatures: 96 }, random);
      const expected = Float32Array.from(matrix.weights());
      const ids = [39, 0, 17];
      const rows = onEveryIsa((bench) => {
        const y = bench.room(ids.length * 96);
        bench.context.embedding({ table: matrix.pack(bench), ids: bench.i32(ids), y, rows: ids.length });
        return bench.read(y, ids.length * 96);
      });
      assertEquals(
        [...rows],
        ids.flatMap((id) => [...expected.subarray(id * 96, (id + 1) * 96)]),
      );
    });
  }

  it("dequantises any stretch of rows", () => {
    const matrix = new LutMatrix({ bits: 3, group: 32, outFeatures: 50, inFeatures: 96 }, random);
    const all = Float32Array.from(matrix.weights());
    using bench = new Bench();
    const weight = matrix.pack(bench);
    for (const [firstRow, nRows] of [
      [0, 1],
      [15, 2],
      [16, 16],
      [49, 1],
    ] as const) {
      const y = bench.room(nRows * 96);
      bench.context.weightDequantize({ weight, y, firstRow, nRows });
      const expected = all.slice(firstRow * 96, (firstRow + nRows) * 96);
      assertSameBits(bench.read(y, nRows * 96), expected, `rows from ${firstRow}`);
    }
  });

  it("gives a row the same bits whatever the batch around it", () => {
    const [outFeatures, inFeatures, group] = [40, 256, 64];
    const x = random.normals(150 * inFeatures);
    for (const bits of BITS) {
      const matrix = new LutMatrix({ bits, group, outFeatures, inFeatures }, random);
      for (const isa of isas) {
        using bench = new Bench(isa, 2);
        const weight = matrix.pack(bench);
        const run = (first: number, count: number) =>
          runLinear(bench, x.slice(first * inFeatures, (first + count) * inFeatures), inFeatures, ACTIVATIONS_F32, [
            { weight },
          ]);
        const all = run(0, 150);
        for (const [first, count] of [
          [0, 1],
          [7, 2],
          [63, 3],
          [64, 9],
          [20, 67],
          [149, 1],
        ] as const) {
          const expected = all.slice(first * outFeatures, (first + count) * outFeatures);
          assertSameBits(run(first, count), expected, `${isa}, rows ${first} to ${first + count}`);
        }
      }
    }
  });

  it("shares a call with affine and dense matrices", () => {
    const inFeatures = 128;
    const table = new LutMatrix({ bits: 4, group: 32, outFeatures: 33, inFeatures }, random);
    const affine = new AffineMatrix({ bits: 2, group: 64, zero: ZERO_INTEGER, outFeatures: 20, inFeatures }, random);
    const dense = new DenseMatrix(F16, 7, inFeatures, random);
    const x = random.normals(5 * inFeatures);
    const makers = [(b: Bench) => affine.pack(b), (b: Bench) => table.pack(b), (b: Bench) => dense.put(b)];
    const together = onEveryIsa((bench) =>
      runLinear(
        bench,
        x,
        inFeatures,
        ACTIVATIONS_INT8,
        makers.map((make) => ({ weight: make(bench) })),
      ),
    );
    using bench = new Bench();
    const alone = makers.flatMap((make) => [
      ...runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [{ weight: make(bench) }]),
    ]);
    assertEquals([...together], alone);
  });

  it("hands NaN and infinity in x on", () => {
    const matrix = new LutMatrix({ bits: 2, group: 32, outFeatures: 3, inFeatures: 64 }, random);
    const x = random.normals(4 * 64);
    x[5] = Number.NaN;
    x[64 + 40] = Number.POSITIVE_INFINITY;
    const y = onEveryIsa((bench) => runLinear(bench, x, 64, ACTIVATIONS_INT8, [{ weight: matrix.pack(bench) }]));
    assert(y.subarray(0, 3).every(Number.isNaN));
    assert(y.subarray(3, 6).every((value) => !Number.isFinite(value)));
    assert(y.subarray(6).every(Number.isFinite));
  });

  it("refuses shapes, tables and tensors that do not fit", () => {
    const matrix = new LutMatrix({ bits: 4, group: 64, outFeatures: 16, inFeatures: 128 }, random);
    using bench = new Bench();
    const args = matrix.repackArgs(bench);
    bench.context.weightRepack(args);
    const refused = (change: Partial<WeightRepackArgs>, status: string, text: string) => {
      const error = assertThrows(() => bench.context.weightRepack({ ...args, ...change }), ApiqError);
      assertEquals(error.status, status);
      assert(error.message.includes(text), error.message);
    };
    const weight = (change: object) => ({ weight: { ...args.weight, ...change } });
    refused({ table: null }, "INVALID_HANDLE", "table");
    refused({ table: bench.room(15) }, "OUT_OF_RANGE", "table: 64 bytes");
    refused({ table: args.weight.data }, "INVALID_ARGUMENT", "weight.data and table: the tensors overlap");
    refused({ zeros: bench.room(64) }, "INVALID_ARGUMENT", "zeros: received a tensor for a lut matrix, expected none");
    refused({ format: GPTQ_V1 }, "INVALID_ARGUMENT", "format: received 0 for a lut matrix");
    refused(weight({ bits: 8 }), "INVALID_ARGUMENT", "bits: received 8 for a lut matrix, expected 2, 3 or 4");
    refused(weight({ zero: 1 }), "INVALID_ARGUMENT", "zero: received 1 for a lut matrix");
    refused(weight({ group: 48 }), "INVALID_ARGUMENT", "group: received 48");
    refused(weight({ dtype: 1 }), "INVALID_ARGUMENT", "dtype: received 1");
    refused(weight({ inFeatures: 96 }), "INVALID_ARGUMENT", "in_features: received 96");
    refused(weight({ outFeatures: 17 }), "OUT_OF_RANGE", "weight.data");
    const affine = { ...args, ...weight({ kind: 1 }), zeros: bench.room(64), table: args.table };
    const error = assertThrows(() => bench.context.weightRepack(affine), ApiqError);
    assert(error.message.includes("table: received a tensor for an affine matrix"), error.message);
  });
});
