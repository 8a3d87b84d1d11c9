import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  ApiqError,
  GPTQ_V1,
  GPTQ_V2,
  WEIGHT_AFFINE,
  type Weight,
  type WeightRepackArgs,
  ZERO_FLOAT,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import { readInts, readTensor } from "../../runtime/formats/read.ts";
import { openSafetensors } from "../../runtime/formats/safetensors.ts";
import { itShared, sharedPath } from "../shared.ts";
import { assertSameBits, Bench, onEveryIsa, Random } from "./harness.ts";
import { AffineMatrix } from "./linear_problem.ts";

const random = new Random(4);

function dequantize(bench: Bench, weight: Weight, firstRow = 0, nRows = weight.outFeatures): Float32Array {
  const y = bench.room(nRows * weight.inFeatures);
  bench.context.weightDequantize({ weight, y, firstRow, nRows });
  return bench.read(y, nRows * weight.inFeatures);
}

describe("packing a matrix and dequantising it again", () => {
  for (const bits of [2, 3, 4, 8]) {
    it(`gives scale * (q - z) and fma(scale, q, m) back exactly at ${bits} bits`, () => {
      for (const group of [32, 64, 128]) {
        for (const zero of [ZERO_INTEGER, ZERO_FLOAT]) {
          for (const [outFeatures, groups] of [
            [1, 1],
            [15, 2],
            [17, 3],
            [100, 5],
          ] as const) {
            const matrix = new AffineMatrix({ bits, group, zero, outFeatures, inFeatures: groups * group }, random);
            const expected = Float32Array.from(matrix.weights());
            for (const format of [GPTQ_V1, GPTQ_V2]) {
              const actual = onEveryIsa((bench) => dequantize(bench, matrix.pack(bench, format)));
              assertSameBits(actual, expected, `${outFeatures} x ${groups} groups of ${group}`);
            }
          }
        }
      }
    });

    itShared(`reproduces AutoGPTQ's matrix at ${bits} bits`, () => {
      const { tensors } = openSafetensors(sharedPath(`golden/gptq/v1_b${bits}.safetensors`));
      const tensor = (name: string) => tensors.get(name)!;
      const [outFeatures, inFeatures] = tensor("dequantized").shape as [number, number];
      const shape = { kind: WEIGHT_AFFINE, dtype: 0, bits, group: 64, zero: ZERO_INTEGER, outFeatures, inFeatures };
      const actual = onEveryIsa((bench) => {
        const weight = { ...shape, data: bench.context.alloc(bench.context.packedBytes(shape)).at(0) };
        bench.context.weightRepack({
          qweight: bench.i32(readInts(tensor("qweight"))),
          zeros: bench.i32(readInts(tensor("qzeros"))),
          scales: bench.put(Float16Array.from(readTensor(tensor("scales")))),
          weight,
          format: GPTQ_V1,
          releaseSource: 0,
          table: null,
        });
        return dequantize(bench, weight);
      });
      assertSameBits(actual, readTensor(tensor("dequantized")), "the dequantised matrix");
    });
  }

  it("dequantises any stretch of rows", () => {
    const matrix = new AffineMatrix(
      { bits: 3, group: 32, zero: ZERO_INTEGER, outFeatures: 50, inFeatures: 96 },
      random,
    );
    using bench = new Bench();
    const weight = matrix.pack(bench);
    const all = dequantize(bench, weight);
    for (const [first, count] of [
      [0, 1],
      [15, 2],
      [16, 16],
      [49, 1],
    ] as const) {
      assertSameBits(
        dequantize(bench, weight, first, count),
        all.slice(first * 96, (first + count) * 96),
        `rows from ${first}`,
      );
    }
  });

  it("repacks while a graph is being recorded", () => {
    const matrix = new AffineMatrix(
      { bits: 2, group: 64, zero: ZERO_INTEGER, outFeatures: 20, inFeatures: 64 },
      random,
    );
    using bench = new Bench();
    let weight: Weight | undefined;
    bench.context
      .record(() => {
        weight = matrix.pack(bench);
      })
      [Symbol.dispose]();
    assertSameBits(dequantize(bench, weight!), Float32Array.from(matrix.weights()), "the dequantised matrix");
  });

  it("leaves a mapped source readable after giving its pages back", () => {
    const folder = mkdtempSync(join(tmpdir(), "apiq-weight-"));
    try {
      const path = join(folder, "source");
      const words = Int32Array.from({ length: (1024 * 64 * 4) / 32 }, () => random.integer(2 ** 31));
      writeFileSync(path, words);
      using bench = new Bench("auto", 2);
      const shape = {
        kind: WEIGHT_AFFINE,
        dtype: 0,
        bits: 4,
        group: 64,
        zero: ZERO_FLOAT,
        outFeatures: 1024,
        inFeatures: 64,
      };
      const ones = bench.put(new Float16Array(1024).fill(1));
      const source = bench.context.mapFile(path);
      const repack = (qweight: WeightRepackArgs["qweight"], releaseSource: number) => {
        const weight = { ...shape, data: bench.context.alloc(bench.context.packedBytes(shape)).at(0) };
        bench.context.weightRepack({
          qweight,
          zeros: ones,
          scales: ones,
          weight,
          format: GPTQ_V2,
          releaseSource,
          table: null,
        });
        return dequantize(bench, weight);
      };
      const expected = repack(bench.put(words), 1);
      assertSameBits(repack(source.at(0), 1), expected, "from the mapped file");
      assertSameBits(repack(source.at(0), 0), expected, "from the mapped file, read again");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("a weight's arguments", () => {
  const shape = {
    kind: WEIGHT_AFFINE,
    dtype: 0,
    bits: 2,
    group: 64,
    zero: ZERO_INTEGER,
    outFeatures: 16,
    inFeatures: 128,
  };

  it("give packed sizes close to the bits they hold", () => {
    using bench = new Bench();
    const big = { ...shape, outFeatures: 2048, inFeatures: 2048 };
    for (const bits of [2, 3, 4, 8]) {
      const perWeight = (bench.context.packedBytes({ ...big, bits }) * 8) / 2048 ** 2;
      assert(perWeight > bits + 0.25 && perWeight <= bits + 0.4, `${perWeight} bits per weight`);
    }
  });

  it("are refused where the shape or the memory is wrong", () => {
    using bench = new Bench();
    const sized = (change: object) => () => bench.context.packedBytes({ ...shape, ...change });
    assertEquals(assertThrows(sized({ inFeatures: 96 }), ApiqError).status, "INVALID_ARGUMENT");
    assertEquals(assertThrows(sized({ kind: 0, bits: 0, group: 0 }), ApiqError).status, "INVALID_ARGUMENT");
    assertEquals(
      assertThrows(sized({ outFeatures: 2 ** 31, inFeatures: 2 ** 31 }), ApiqError).status,
      "INVALID_ARGUMENT",
    );

    const bytes = bench.context.packedBytes(shape);
    const target = bench.context.alloc(bytes + 64);
    const args: WeightRepackArgs = {
      qweight: bench.room((128 / 16) * 16),
      zeros: bench.room(2),
      scales: bench.room(16),
      weight: { ...shape, data: target.at(0) },
      format: GPTQ_V2,
      releaseSource: 0,
      table: null,
    };
    bench.context.weightRepack(args);
    const refused = (change: Partial<WeightRepackArgs>, status: string, text: string) => {
      const error = assertThrows(() => bench.context.weightRepack({ ...args, ...change }), ApiqError);
      assertEquals(error.status, status);
      assert(error.message.includes(text), error.message);
    };
    refused({ format: 2 }, "INVALID_ARGUMENT", "format: received 2");
    refused({ releaseSource: 2 }, "INVALID_ARGUMENT", "release_source: received 2");
    refused({ qweight: bench.room(127) }, "OUT_OF_RANGE", "qweight: 512 bytes");
    refused({ zeros: bench.room(1) }, "OUT_OF_RANGE", "zeros: 8 bytes");
    refused({ scales: bench.room(15) }, "OUT_OF_RANGE", "scales: 64 bytes");
    refused({ weight: { ...shape, data: target.at(32) } }, "INVALID_ARGUMENT", "not aligned to 64 bytes");
    refused({ weight: { ...shape, data: target.at(128) } }, "OUT_OF_RANGE", "weight.data");
    refused({ scales: target.at(0) }, "INVALID_ARGUMENT", "overlap");
    const rows = (firstRow: number, nRows: number) => () =>
      bench.context.weightDequantize({ weight: args.weight, y: bench.room(16 * 128), firstRow, nRows });
    assertEquals(assertThrows(rows(15, 2), ApiqError).status, "OUT_OF_RANGE");
    assertEquals(assertThrows(rows(0, 0), ApiqError).status, "INVALID_ARGUMENT");
  });
});
