import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  ACTIVATIONS_F32,
  ACTIVATIONS_INT8,
  ApiqError,
  BF16,
  F16,
  F32,
  type LinearArgs,
  ZERO_FLOAT,
  ZERO_INTEGER,
} from "../../ffi/mod.ts";
import { assertSameBits, Bench, isas, onEveryIsa, Random } from "./harness.ts";
import {
  AffineMatrix,
  assertRounded,
  DenseMatrix,
  multiply,
  quantizedActivations,
  runLinear,
} from "./linear_problem.ts";

const BITS = [2, 3, 4, 8];
const GROUPS = [32, 64, 128];
const ZEROS = [
  ["integer", ZERO_INTEGER],
  ["float", ZERO_FLOAT],
] as const;

/** Roundings between an exact sum and an output: one a group and operand, the scales, the bias. */
const int8Roundings = (groups: number) => 2 * groups + 6;
/** One a column of the longest of the four partial sums, the weight's own, the last additions. */
const f32Roundings = (inFeatures: number) => inFeatures / 4 + 6;

const random = new Random(3);

describe("linear of a packed matrix", () => {
  for (const bits of BITS) {
    for (const group of GROUPS) {
      for (const [zeroName, zero] of ZEROS) {
        it(`is right at ${bits} bits, groups of ${group}, ${zeroName} zeros, over ragged shapes`, () => {
          for (const [outFeatures, groups, rows] of [
            [1, 1, 1],
            [15, 3, 2],
            [17, 2, 5],
            [100, 5, 15],
          ] as const) {
            const inFeatures = groups * group;
            const matrix = new AffineMatrix({ bits, group, zero, outFeatures, inFeatures }, random);
            const x = random.normals(rows * inFeatures);
            const bias = random.normals(outFeatures);
            const weights = matrix.weights();
            for (const activations of [ACTIVATIONS_INT8, ACTIVATIONS_F32]) {
              const int8 = activations === ACTIVATIONS_INT8;
              const y = onEveryIsa((bench) =>
                runLinear(bench, x, inFeatures, activations, [{ weight: matrix.pack(bench), bias }]),
              );
              const expected = multiply(int8 ? quantizedActivations(x, group) : x, weights, inFeatures, bias);
              assertRounded(y, expected, int8 ? int8Roundings(groups) : f32Roundings(inFeatures));
            }
          }
        });
      }
    }
  }

  it("is right for a long input and many rows", () => {
    const inFeatures = 5632;
    const matrix = new AffineMatrix({ bits: 2, group: 64, zero: ZERO_INTEGER, outFeatures: 18, inFeatures }, random);
    const x = random.normals(40 * inFeatures);
    const y = onEveryIsa((bench) =>
      runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [{ weight: matrix.pack(bench) }]),
    );
    assertRounded(y, multiply(quantizedActivations(x, 64), matrix.weights(), inFeatures), int8Roundings(88));
  });

  it("never saturates: the largest weights times the largest inputs are exact integers", () => {
    for (const bits of BITS) {
      for (const group of GROUPS) {
        const matrix = new AffineMatrix(
          { bits, group, zero: ZERO_INTEGER, outFeatures: 17, inFeatures: 2 * group },
          random,
        );
        matrix.q.fill(2 ** bits - 1);
        matrix.scales.fill(1);
        matrix.zeros.forEach((_, i) => {
          matrix.zeros[i] = i % 2 === 0 ? 0 : 2 ** bits - 1;
        });
        const x = new Float32Array(9 * 2 * group).map((_, i) => (Math.floor(i / (2 * group)) % 2 === 0 ? 127 : -127));
        const y = onEveryIsa((bench) =>
          runLinear(bench, x, 2 * group, ACTIVATIONS_INT8, [{ weight: matrix.pack(bench) }]),
        );
        assertEquals(Array.from(y), Array.from(multiply(x, matrix.weights(), 2 * group).y));
      }
    }
  });

  it("gives a row the same bits alone as among others", () => {
    const inFeatures = 192;
    for (const bits of BITS) {
      const matrix = new AffineMatrix({ bits, group: 64, zero: ZERO_FLOAT, outFeatures: 33, inFeatures }, random);
      const x = random.normals(23 * inFeatures);
      for (const activations of [ACTIVATIONS_INT8, ACTIVATIONS_F32]) {
        using bench = new Bench();
        const weight = matrix.pack(bench);
        const together = runLinear(bench, x, inFeatures, activations, [{ weight }]);
        for (const rows of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
          const some = runLinear(bench, x.slice(-rows * inFeatures), inFeatures, activations, [{ weight }]);
          assertSameBits(some, together.slice(-some.length), `${rows} of 23 rows`);
        }
      }
    }
  });

  it("runs parts of several shapes and kinds, with and without bias, as if each were alone", () => {
    const inFeatures = 256;
    const shape = { bits: 2, group: 64, zero: ZERO_INTEGER, outFeatures: 40, inFeatures };
    const packed = [
      new AffineMatrix(shape, random),
      new AffineMatrix({ ...shape, bits: 4, zero: ZERO_FLOAT, outFeatures: 7 }, random),
    ];
    const dense = [new DenseMatrix(F16, 21, inFeatures, random), new DenseMatrix(F32, 16, inFeatures, random)];
    const biases = [random.normals(40), undefined, random.normals(21), undefined];
    const x = random.normals(11 * inFeatures);
    onEveryIsa((bench) => {
      const weights = [...packed.map((matrix) => matrix.pack(bench)), ...dense.map((matrix) => matrix.put(bench))];
      const parts = weights.map((weight, i) => ({ weight, bias: biases[i] }));
      const together = runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, parts);
      const alone = parts.flatMap((part) => Array.from(runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [part])));
      assertSameBits(together, Float32Array.from(alone), "parts together and alone");
      return together;
    });
  });

  it("gives zeros for rows of zeros, and NaN only for the rows that hold something not finite", () => {
    const inFeatures = 128;
    const matrix = new AffineMatrix({ bits: 3, group: 32, zero: ZERO_FLOAT, outFeatures: 20, inFeatures }, random);
    const x = random.normals(6 * inFeatures);
    x.fill(0, 0, inFeatures);
    x[inFeatures + 5] = Number.NaN;
    x[2 * inFeatures + 70] = Number.NEGATIVE_INFINITY;
    x.subarray(3 * inFeatures, 4 * inFeatures).fill(1e-44);
    x.subarray(4 * inFeatures, 5 * inFeatures).fill(1e30);
    const y = onEveryIsa((bench) => {
      const all = runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [{ weight: matrix.pack(bench) }]);
      assert(all.subarray(20, 60).every(Number.isNaN));
      return all.map((value) => (Number.isNaN(value) ? 0 : value));
    });
    assert(y.subarray(0, 20).every((value) => value === 0));
    assert(
      y.subarray(60, 80).every((value) => value === 0),
      "below 2^-100 an input counts as zero",
    );
    assert(y.subarray(80, 120).every((value) => value !== 0));
  });

  it("gives the same bits when it is recorded and replayed", () => {
    const inFeatures = 320;
    const matrix = new AffineMatrix({ bits: 2, group: 32, zero: ZERO_INTEGER, outFeatures: 50, inFeatures }, random);
    const x = random.normals(3 * inFeatures);
    for (const isa of isas) {
      using bench = new Bench(isa, 2);
      const weight = matrix.pack(bench);
      const [input, y] = [bench.f32(x), bench.room(150)];
      const parts = [{ weight, bias: null, y }];
      using graph = bench.context.record(() =>
        bench.context.linear({ x: input, rows: 3, inFeatures, activations: ACTIVATIONS_INT8, parts }),
      );
      const once = runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [{ weight }]);
      for (let launch = 0; launch < 3; launch++) {
        y.buffer.upload(new Float32Array(150));
        graph.launch();
        assertSameBits(bench.read(y, 150), once, `launch ${launch}`);
      }
    }
  });
});

describe("linear of a dense matrix", () => {
  for (const [name, dtype] of [
    ["float32", F32],
    ["float16", F16],
    ["bfloat16", BF16],
  ] as const) {
    it(`is right for ${name}, over ragged shapes`, () => {
      for (const [outFeatures, inFeatures, rows] of [
        [1, 1, 1],
        [17, 33, 5],
        [100, 48, 9],
        [5, 7, 40],
        [6, 2048, 2],
      ] as const) {
        const matrix = new DenseMatrix(dtype, outFeatures, inFeatures, random);
        const x = random.normals(rows * inFeatures);
        const bias = random.normals(outFeatures);
        const y = onEveryIsa((bench) =>
          runLinear(bench, x, inFeatures, ACTIVATIONS_INT8, [{ weight: matrix.put(bench), bias }]),
        );
        assertRounded(y, multiply(x, matrix.values, inFeatures, bias), inFeatures / 16 + 6);
      }
    });
  }
});

describe("linear's arguments", () => {
  const shape = { bits: 2, group: 64, zero: ZERO_INTEGER, outFeatures: 16, inFeatures: 128 };

  function refused(change: (args: LinearArgs, bench: Bench) => object, status: string, text: string): void {
    using bench = new Bench();
    const weight = new AffineMatrix(shape, random).pack(bench);
    const args: LinearArgs = {
      x: bench.room(2 * 128),
      rows: 2,
      inFeatures: 128,
      activations: ACTIVATIONS_INT8,
      parts: [{ weight, bias: null, y: bench.room(2 * 16) }],
    };
    bench.context.linear(args);
    const error = assertThrows(() => bench.context.linear({ ...args, ...change(args, bench) }), ApiqError);
    assertEquals(error.status, status);
    assert(error.message.includes(text), error.message);
  }

  const changed = (args: LinearArgs, part: object, weight: object = {}) => ({
    parts: [{ ...args.parts[0]!, ...part, weight: { ...args.parts[0]!.weight, ...weight } }],
  });

  it("are refused where shapes do not fit", () => {
    refused(() => ({ rows: 0 }), "INVALID_ARGUMENT", "rows: received 0");
    refused(() => ({ rows: 3 }), "OUT_OF_RANGE", "x: 1536 bytes");
    refused(() => ({ rows: 2 ** 32 - 1 }), "OUT_OF_RANGE", "x:");
    refused(() => ({ inFeatures: 64 }), "INVALID_ARGUMENT", "in_features: received 128, expected the input's 64");
    refused((args) => changed(args, {}, { outFeatures: 17 }), "OUT_OF_RANGE", "parts.weight");
    refused((args) => changed(args, {}, { outFeatures: 0 }), "INVALID_ARGUMENT", "out_features: received 0");
    refused(
      (args) => changed(args, {}, { outFeatures: 2 ** 32 - 1 }),
      "INVALID_ARGUMENT",
      "out_features: received 4294967295",
    );
    refused((args, bench) => changed(args, { bias: bench.room(15) }), "OUT_OF_RANGE", "parts.bias: 64 bytes");
    refused((args, bench) => changed(args, { y: bench.room(31) }), "OUT_OF_RANGE", "parts.y: 128 bytes");
  });

  it("are refused where enumerators are unknown or absent tensors are needed", () => {
    refused(() => ({ activations: 2 }), "INVALID_ARGUMENT", "activations: received 2");
    refused(() => ({ parts: [] }), "INVALID_ARGUMENT", "n_parts: received 0");
    refused(() => ({ x: null }), "INVALID_HANDLE", "x:");
    for (const [weight, text] of [
      [{ kind: 3 }, "kind: received 3"],
      [{ dtype: 1 }, "dtype: received 1"],
      [{ bits: 5 }, "bits: received 5"],
      [{ group: 16 }, "group: received 16"],
      [{ zero: 2 }, "zero: received 2"],
      [{ kind: 0 }, "for a dense matrix"],
    ] as const) {
      refused((args) => changed(args, {}, weight), "INVALID_ARGUMENT", text);
    }
  });

  it("are refused where an output overlaps something else, or groups of parts differ", () => {
    refused((args) => changed(args, { y: args.x }), "INVALID_ARGUMENT", "parts.y and x: the tensors overlap");
    refused((args) => ({ parts: [args.parts[0]!, args.parts[0]!] }), "INVALID_ARGUMENT", "parts.y of two parts");
    refused(
      (args, bench) => {
        const weight = new AffineMatrix({ ...shape, group: 32 }, random).pack(bench);
        return { parts: [args.parts[0]!, { weight, bias: null, y: bench.room(32) }] };
      },
      "INVALID_ARGUMENT",
      "parts.weight.group: received 32, expected 64",
    );
  });
});
