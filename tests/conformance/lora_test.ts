import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, F16, F32, type LoraSlot, type Ref } from "../../ffi/mod.ts";
import { assertClose, assertSameBits, Bench, onEveryIsa, Random, throughF16 } from "./harness.ts";

interface Adapter {
  rank: number;
  dtype: number;
  scale: number;
  a: Float32Array; // [rank, in]
  b: Float32Array; // [rank, out]
  factors: Float32Array | null; // [2, out], factor and shift
}

const NONE: Adapter = { rank: 0, dtype: F32, scale: 0, a: new Float32Array(), b: new Float32Array(), factors: null };

function adapter(random: Random, rank: number, dtype: number, inFeatures: number, outFeatures: number): Adapter {
  const held = (values: Float32Array) => (dtype === F16 ? throughF16(values) : values);
  const [a, b] = [random.normals(rank * inFeatures), random.normals(rank * outFeatures, 0.3)];
  return { rank, dtype, scale: Math.fround(0.5 + random.uniform()), a: held(a), b: held(b), factors: null };
}

/** An adapter that scales and shifts outputs besides. */
function doraAdapter(...args: Parameters<typeof adapter>): Adapter {
  const factors = args[0].normals(2 * args[4]);
  return { ...adapter(...args), factors };
}

/** Lays the adapters' matrices out one behind the other. */
function pack(parts: readonly (readonly Adapter[])[]): { pool: Uint8Array; slots: LoraSlot[][] } {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  const append = (values: Float32Array, dtype: number) => {
    const typed = dtype === F16 ? Float16Array.from(values) : values;
    const offset = bytes;
    pieces.push(
      new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength),
      new Uint8Array(-typed.byteLength & 3),
    );
    bytes += (typed.byteLength + 3) & ~3;
    return offset;
  };
  const appendFactors = (factors: Float32Array) => {
    const gap = -bytes & 63;
    pieces.push(new Uint8Array(gap));
    bytes += gap;
    append(factors, F32);
    return 1;
  };
  const slots = parts.map((adapters) =>
    adapters.map(({ rank, dtype, scale, a, b, factors }) => ({
      aOffset: append(a, dtype),
      bOffset: append(b, dtype),
      rank,
      dtype,
      scale,
      factors: factors === null ? 0 : appendFactors(factors),
    })),
  );
  const pool = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    pool.set(piece, at);
    at += piece.length;
  }
  return { pool, slots };
}

class Problem {
  readonly inFeatures: number;
  readonly outs: readonly number[];
  readonly adapters: Adapter[][]; // [part][slot]
  readonly #packed: ReturnType<typeof pack>;

  constructor(
    inFeatures: number,
    outs: readonly number[],
    ranks: readonly number[],
    seed: number,
    make: typeof adapter = adapter,
  ) {
    const random = new Random(seed);
    this.inFeatures = inFeatures;
    this.outs = outs;
    this.adapters = outs.map((out) =>
      ranks.map((rank, slot) => (rank === 0 ? NONE : make(random, rank, slot % 2 === 0 ? F16 : F32, inFeatures, out))),
    );
    this.#packed = pack(this.adapters);
  }

  /** Outputs of all parts, one after another. */
  run(bench: Bench, x: Float32Array, rowSlots: readonly number[], y: readonly Float32Array[]): Float32Array {
    const rows = rowSlots.length / 2;
    const outputs: Ref[] = y.map((values) => bench.f32(values));
    bench.context.lora({
      x: bench.f32(x),
      pool: bench.put(this.#packed.pool),
      rowSlots: bench.i32(rowSlots),
      poolBytes: this.#packed.pool.length,
      rows,
      inFeatures: this.inFeatures,
      nSlots: this.adapters[0]!.length,
      maxRank: Math.max(...this.adapters[0]!.map(({ rank }) => rank)),
      parts: this.outs.map((outFeatures, i) => ({
        slots: bench.structs("apiq_lora_slot", this.#packed.slots[i]!),
        y: outputs[i]!,
        outFeatures,
      })),
    });
    return Float32Array.from(outputs.flatMap((ref, i) => [...bench.read(ref, rows * this.outs[i]!)]));
  }

  expected(x: Float32Array, rowSlots: readonly number[], y: readonly Float32Array[]): number[] {
    return this.outs.flatMap((out, part) => {
      const result = Array.from(y[part]!);
      rowSlots.forEach((slot, index) => {
        if (slot < 0) return;
        const row = Math.floor(index / 2);
        const { rank, scale, a, b, factors } = this.adapters[part]![slot]!;
        for (let k = 0; k < rank; k++) {
          let h = 0;
          for (let i = 0; i < this.inFeatures; i++) h += x[row * this.inFeatures + i]! * a[k * this.inFeatures + i]!;
          for (let o = 0; o < out; o++) result[row * out + o]! += scale * h * b[k * out + o]!;
        }
        if (factors === null) return;
        for (let o = 0; o < out; o++) result[row * out + o] = factors[o]! * result[row * out + o]! + factors[out + o]!;
      });
      return result;
    });
  }
}

describe("lora", () => {
  it("equals float64 over ragged shapes, ranks, parts and rows", () => {
    for (const [inFeatures, outs, ranks, rows] of [
      [16, [16], [1, 2], 1],
      [33, [7], [3, 0, 5], 4],
      [100, [530, 17, 33], [16, 17, 4, 1], 9],
      [576, [192, 192, 576, 31], [64, 8], 3],
      [48, [64, 20], [8, 5, 33], 70],
    ] as const) {
      const random = new Random(rows);
      const problem = new Problem(inFeatures, outs, ranks, rows);
      const x = random.normals(rows * inFeatures);
      const y = outs.map((out) => random.normals(rows * out));
      const rowSlots = Array.from({ length: rows * 2 }, () => random.integer(ranks.length + 1) - 1);
      const result = onEveryIsa((bench) => problem.run(bench, x, rowSlots, y));
      // h is a sum of `in` products (size sqrt(in), error some 1e-7 of that), y one of up to 64 such terms for each of two slots.
      assertClose(
        result,
        problem.expected(x, rowSlots, y),
        1e-6 * Math.sqrt(inFeatures) * 8,
        `${rows} x ${inFeatures}`,
      );
    }
  });

  it("equals float64 with DoRA's factors and shifts, of one adapter on top of another", () => {
    for (const [inFeatures, outs, ranks, rows] of [
      [16, [16], [1, 2], 1],
      [33, [7, 530], [3, 0, 5], 9],
      [48, [64, 20], [8, 5, 33], 70],
    ] as const) {
      const random = new Random(rows + 1);
      const problem = new Problem(inFeatures, outs, ranks, rows, doraAdapter);
      const x = random.normals(rows * inFeatures);
      const y = outs.map((out) => random.normals(rows * out));
      const rowSlots = Array.from({ length: rows * 2 }, () => random.integer(ranks.length + 1) - 1);
      const result = onEveryIsa((bench) => problem.run(bench, x, rowSlots, y));
      // As above, times the factors, of which the largest is about 3, twice.
      const bound = 1e-6 * Math.sqrt(inFeatures) * 8 * 9;
      assertClose(result, problem.expected(x, rowSlots, y), bound, `${rows} x ${inFeatures}`);
    }
  });

  it("gives a row the same bits whatever else is in the batch", () => {
    const outs = [48, 100];
    const problem = new Problem(80, outs, [16, 7, 20], 11);
    const random = new Random(12);
    const rows = 150;
    const x = random.normals(rows * 80);
    const y = outs.map((out) => random.normals(rows * out));
    const rowSlots = Array.from({ length: rows * 2 }, () => random.integer(4) - 1);
    using bench = new Bench();
    const together = problem.run(bench, x, rowSlots, y);
    for (let row = 0; row < rows; row++) {
      const mine = y.map((values, part) => values.subarray(row * outs[part]!, (row + 1) * outs[part]!));
      const alone = problem.run(
        bench,
        x.subarray(row * 80, (row + 1) * 80),
        rowSlots.slice(2 * row, 2 * row + 2),
        mine,
      );
      let start = 0;
      let from = 0;
      for (const out of outs) {
        assertSameBits(
          alone.subarray(from, from + out),
          together.subarray(start + row * out, start + (row + 1) * out),
          `row ${row}`,
        );
        start += rows * out;
        from += out;
      }
    }
  });

  it("leaves rows without an adapter untouched, and those whose slot is empty", () => {
    const problem = new Problem(16, [8], [0, 2], 13);
    using bench = new Bench();
    const y = new Random(14).normals(16);
    const result = problem.run(bench, new Random(15).normals(32), [-1, -1, 0, -1], [y]);
    assertEquals(result, y);
  });
});

describe("lora's checks", () => {
  const [rows, inFeatures, outFeatures, rank] = [2, 16, 8, 4];
  const good: LoraSlot = { aOffset: 0, bOffset: rank * inFeatures * 2, rank, dtype: F16, scale: 1, factors: 0 };
  const poolBytes = rank * (inFeatures + outFeatures) * 2;

  function call(bench: Bench, slot: LoraSlot, rowSlots: number[]): Float32Array {
    const y = bench.f32(new Float32Array(rows * outFeatures));
    bench.context.lora({
      x: bench.f32(new Float32Array(rows * inFeatures).fill(1)),
      pool: bench.put(Float16Array.from({ length: poolBytes / 2 }, () => 1)),
      rowSlots: bench.i32(rowSlots),
      poolBytes,
      rows,
      inFeatures,
      nSlots: 1,
      maxRank: rank,
      parts: [{ slots: bench.structs("apiq_lora_slot", [slot]), y, outFeatures }],
    });
    bench.context.synchronize();
    return bench.read(y, rows * outFeatures);
  }

  it("accepts a slot that ends where the pool does", () => {
    using bench = new Bench();
    assertEquals([...call(bench, good, [0, -1, -1, 0])], new Array(16).fill(rank * inFeatures));
  });

  const cases: [string, string, Partial<LoraSlot>][] = [
    ["A reaches past the pool", "OUT_OF_RANGE", { aOffset: poolBytes - rank * inFeatures * 2 + 2 }],
    ["B reaches past the pool", "OUT_OF_RANGE", { bOffset: poolBytes }],
    ["B reaches past the pool", "OUT_OF_RANGE", { bOffset: Number.MAX_SAFE_INTEGER - 1 }],
    ["A reaches past the pool", "OUT_OF_RANGE", { dtype: F32 }],
    ["the rank exceeds max_rank", "INVALID_ARGUMENT", { rank: 5 }],
    ["the rank exceeds max_rank", "INVALID_ARGUMENT", { rank: 2 ** 32 - 1 }],
    ["not aligned", "INVALID_ARGUMENT", { aOffset: 1 }],
    ["the dtype", "INVALID_ARGUMENT", { dtype: 2 }],
    ["factors is neither 0 nor 1", "INVALID_ARGUMENT", { factors: 2 }],
    ["the factors reach past the pool", "OUT_OF_RANGE", { factors: 1 }],
  ];
  for (const [text, status, bad] of cases) {
    it(`reports a slot where ${text} (${Object.keys(bad)}), and skips it`, () => {
      using bench = new Bench();
      const error = assertThrows(() => call(bench, { ...good, ...bad }, [0, -1, -1, -1]), ApiqError);
      assertEquals(error.status, status);
      assertStringIncludes(error.message, text);
      assertEquals(call(bench, good, [0, -1, -1, -1])[0], rank * inFeatures);
    });
  }

  it("does not look at slots that no row names", () => {
    using bench = new Bench();
    call(bench, { ...good, aOffset: 10 ** 12 }, [-1, -1, -5, -1]);
  });

  it("reports a row that names no slot", () => {
    using bench = new Bench();
    const error = assertThrows(() => call(bench, good, [0, -1, -1, 1]), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertStringIncludes(error.message, "row 1: received slot 1, expected less than 1");
  });
});
