import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, F16, F32, type KvLayout } from "../../ffi/mod.ts";
import { assertClose, assertSameBits, Bench, onEveryIsa, Random, throughF16 } from "./harness.ts";

const BLOCK = 16;

/** A row of a batch: its sequence and its position in it. */
interface Row {
  seq: number;
  pos: number;
}

interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  window: number;
  dtype: number;
  /** Tokens of every sequence. */
  lengths: readonly number[];
}

/** Sequences with random queries, keys and values, and a cache whose blocks lie in a random order. */
class Problem {
  readonly shape: Shape;
  readonly maxBlocks: number;
  readonly nBlocks: number;
  readonly blockTables: Int32Array;
  readonly #q: Float32Array[];
  readonly #k: Float32Array[];
  readonly #v: Float32Array[];

  constructor(shape: Shape, seed: number) {
    this.shape = shape;
    const random = new Random(seed);
    this.maxBlocks = Math.max(...shape.lengths.map((length) => Math.ceil(length / BLOCK)));
    const used = shape.lengths.map((length) => Math.ceil(length / BLOCK));
    this.nBlocks = used.reduce((sum, n) => sum + n, 2);
    const free = Array.from({ length: this.nBlocks }, (_, i) => i).sort(() => random.uniform() - 0.5);
    this.blockTables = new Int32Array(shape.lengths.length * this.maxBlocks).fill(-1);
    used.forEach((n, seq) => {
      for (let i = 0; i < n; i++) this.blockTables[seq * this.maxBlocks + i] = free.pop()!;
    });
    const tensors = (heads: number) => shape.lengths.map((length) => random.normals(length * heads * shape.headDim));
    this.#q = tensors(shape.heads);
    this.#k = tensors(shape.kvHeads);
    this.#v = tensors(shape.kvHeads);
  }

  get scale(): number {
    return Math.fround(1 / Math.sqrt(this.shape.headDim));
  }

  rows(seq: number, first: number, end: number): Row[] {
    return Array.from({ length: end - first }, (_, i) => ({ seq, pos: first + i }));
  }

  all(): Row[] {
    return this.shape.lengths.flatMap((length, seq) => this.rows(seq, 0, length));
  }

  #gather(tensors: Float32Array[], heads: number, rows: readonly Row[]): Float32Array {
    const width = heads * this.shape.headDim;
    const out = new Float32Array(rows.length * width);
    rows.forEach(({ seq, pos }, i) => {
      if (seq >= 0) out.set(tensors[seq]!.subarray(pos * width, (pos + 1) * width), i * width);
    });
    return out;
  }

  /** Key and value of a position of sequence 0, all heads, as the cache's type holds them. */
  stored(pos: number): { key: Float32Array; value: Float32Array } {
    const row = [{ seq: 0, pos }];
    return {
      key: this.#held(this.#gather(this.#k, this.shape.kvHeads, row)),
      value: this.#held(this.#gather(this.#v, this.shape.kvHeads, row)),
    };
  }

  #held(tensor: Float32Array): Float32Array {
    return this.shape.dtype === F16 ? throughF16(tensor) : tensor;
  }

  /** A cache filled with NaN, as freed blocks may hold anything. */
  cache(bench: Bench): { k: ReturnType<Bench["put"]>; v: ReturnType<Bench["put"]> } {
    const count = this.nBlocks * this.shape.kvHeads * this.shape.headDim * BLOCK;
    const fill = () => (this.shape.dtype === F16 ? new Float16Array(count) : new Float32Array(count)).fill(Number.NaN);
    return { k: bench.put(fill()), v: bench.put(fill()) };
  }

  layout(
    bench: Bench,
    cache: { k: ReturnType<Bench["put"]>; v: ReturnType<Bench["put"]> },
    rows: readonly Row[],
  ): KvLayout {
    return {
      ...cache,
      blockTables: bench.i32(this.blockTables),
      rowSeq: bench.i32(rows.map((row) => row.seq)),
      rowPos: bench.i32(rows.map((row) => row.pos)),
      dtype: this.shape.dtype,
      nBlocks: this.nBlocks,
      blockSize: BLOCK,
      nKvHeads: this.shape.kvHeads,
      headDim: this.shape.headDim,
      nSeqs: this.shape.lengths.length,
      maxBlocks: this.maxBlocks,
      rows: rows.length,
    };
  }

  store(bench: Bench, cache: ReturnType<Problem["cache"]>, rows: readonly Row[]): void {
    const kv = this.layout(bench, cache, rows);
    const keys = bench.f32(this.#gather(this.#k, this.shape.kvHeads, rows));
    bench.context.kvStore({ kv, keys, values: bench.f32(this.#gather(this.#v, this.shape.kvHeads, rows)) });
  }

  attend(bench: Bench, cache: ReturnType<Problem["cache"]>, rows: readonly Row[]): Float32Array {
    const count = rows.length * this.shape.heads * this.shape.headDim;
    const y = bench.room(count);
    bench.context.attention({
      kv: this.layout(bench, cache, rows),
      q: bench.f32(this.#gather(this.#q, this.shape.heads, rows)),
      y,
      nHeads: this.shape.heads,
      window: this.shape.window,
      scale: this.scale,
    });
    return bench.read(y, count);
  }

  /** Stores and attends batch by batch, as an engine does; returns the outputs of all rows, one after another. */
  run(bench: Bench, batches: readonly (readonly Row[])[]): Float32Array {
    const cache = this.cache(bench);
    const outputs = batches.map((rows) => {
      this.store(bench, cache, rows);
      return this.attend(bench, cache, rows);
    });
    return Float32Array.from(outputs.flatMap((output) => [...output]));
  }

  /** In float64, from the keys and values as the cache's type holds them. */
  expected(rows: readonly Row[]): Float64Array {
    const { heads, kvHeads, headDim, window } = this.shape;
    const k = this.#k.map((tensor) => this.#held(tensor));
    const v = this.#v.map((tensor) => this.#held(tensor));
    const out = new Float64Array(rows.length * heads * headDim);
    rows.forEach(({ seq, pos }, row) => {
      const first = window > 0 ? Math.max(0, pos - window + 1) : 0;
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / (heads / kvHeads));
        const query = this.#q[seq]!.subarray((pos * heads + head) * headDim, (pos * heads + head + 1) * headDim);
        const at = (p: number) => (p * kvHeads + kvHead) * headDim;
        const scores: number[] = [];
        for (let p = first; p <= pos; p++) {
          let dot = 0;
          for (let d = 0; d < headDim; d++) dot += query[d]! * k[seq]![at(p) + d]!;
          scores.push(dot * this.scale);
        }
        const most = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let d = 0; d < headDim; d++) {
          let sum = 0;
          weights.forEach((weight, i) => {
            sum += weight * v[seq]![at(first + i) + d]!;
          });
          out[(row * heads + head) * headDim + d] = sum / total;
        }
      }
    });
    return out;
  }
}

const shape = (given: Partial<Shape>): Shape => ({
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  window: 0,
  dtype: F16,
  lengths: [40],
  ...given,
});

// Scores are sums of up to 128 float32 products of deviation 1, scaled to deviation 1: errors around 1e-6, so each probability is off
// by that much relatively; outputs are averages of values of size 4 at most.
const BOUND = 5e-6;

describe("attention", () => {
  for (const dtype of [F32, F16]) {
    for (const heads of [1, 3, 4, 8]) {
      for (const headDim of [16, 48, 64, 128]) {
        it(`equals float64: ${heads} heads a group, head_dim ${headDim}, ${dtype === F16 ? "float16" : "float32"} cache`, () => {
          const problem = new Problem(
            shape({ heads: heads * 2, kvHeads: 2, headDim, dtype, lengths: [37, 5] }),
            heads * headDim,
          );
          const rows = problem.all();
          const y = onEveryIsa((bench) => problem.run(bench, [rows]));
          assertClose(y, problem.expected(rows), BOUND, "attention");
        });
      }
    }
  }

  it("equals float64 over several segments of 256 positions, with and without a window", () => {
    const rows = Array.from({ length: 40 }, (_, i) => ({ seq: 0, pos: 760 + i }));
    for (const window of [0, 1, 24, 256, 300, 5000]) {
      const given = shape({ heads: 3, kvHeads: 1, headDim: 32, window, lengths: [800] });
      const expected = new Problem(given, window + 1).expected(rows);
      const y = onEveryIsa((bench) => {
        const problem = new Problem(given, window + 1);
        const cache = problem.cache(bench);
        problem.store(bench, cache, problem.all());
        // Blocks that have left every row's window may be gone.
        if (window > 0) problem.blockTables.fill(-1, 0, Math.max(0, Math.floor((761 - window) / BLOCK)));
        return problem.attend(bench, cache, rows);
      });
      assertClose(y, expected, BOUND, `window ${window}`);
    }
  });

  it("gives a row the same bits in every chunk and batch", () => {
    for (const [heads, kvHeads, window] of [
      [4, 4, 0],
      [6, 2, 0],
      [8, 2, 50],
      [8, 1, 270],
    ] as const) {
      const problem = new Problem(shape({ heads, kvHeads, headDim: 48, window, lengths: [301, 70] }), heads + kvHeads);
      const long = problem.rows(0, 0, 301);
      const short = problem.rows(1, 0, 70);
      using bench = new Bench("auto", 2);
      const alone = problem.run(bench, [long, short]);
      const oneByOne = problem.run(
        bench,
        [...long, ...short].map((row) => [row]),
      );
      assertSameBits(oneByOne, alone, "row by row");

      // A prefill chunk of one sequence together with decode rows and chunks of the other.
      const width = heads * 48;
      const mixed: Row[][] = [
        [...long.slice(0, 100), ...short.slice(0, 3)],
        [...short.slice(3, 4), ...long.slice(100, 237)],
        [...long.slice(237, 245), ...short.slice(4, 40), ...long.slice(245, 301), ...short.slice(40)],
      ];
      const place = ({ seq, pos }: Row) => (seq === 0 ? pos : 301 + pos) * width;
      const outputs = problem.run(bench, mixed);
      const sorted = new Float32Array(outputs.length);
      mixed.flat().forEach((row, i) => {
        sorted.set(outputs.subarray(i * width, (i + 1) * width), place(row));
      });
      assertSameBits(sorted, alone, "mixed batches");
    }
  });

  it("reads no block between rows whose windows leave a gap", () => {
    const given = shape({ heads: 2, kvHeads: 1, headDim: 16, window: 20, lengths: [600] });
    const rows = Array.from({ length: 40 }, (_, i) => ({ seq: 0, pos: i % 2 === 0 ? 30 + i : 500 + i }));
    const expected = new Problem(given, 8).expected(rows);
    const y = onEveryIsa((bench) => {
      const problem = new Problem(given, 8);
      const cache = problem.cache(bench);
      problem.store(bench, cache, problem.all());
      problem.blockTables.fill(2 ** 31 - 1, 5, 30);
      return problem.attend(bench, cache, rows);
    });
    assertClose(y, expected, BOUND, "attention");
  });

  it("skips padding rows and gives zeros for them", () => {
    const problem = new Problem(shape({ lengths: [20] }), 5);
    using bench = new Bench();
    const rows = problem.all();
    const padded = rows.flatMap((row) => [row, { seq: -1, pos: 12345 }]);
    const width = problem.shape.heads * problem.shape.headDim;
    const y = problem.run(bench, [padded]);
    const plain = problem.run(bench, [rows]);
    rows.forEach((_, i) => {
      assertSameBits(y.subarray(2 * i * width, (2 * i + 1) * width), plain.subarray(i * width, (i + 1) * width), "row");
      assert(y.subarray((2 * i + 1) * width, (2 * i + 2) * width).every((value) => Object.is(value, 0)));
    });
  });

  it("stores keys transposed and values as they are, in the cache's type", () => {
    const problem = new Problem(shape({ kvHeads: 2, headDim: 16, dtype: F16, lengths: [18] }), 6);
    const cacheBytes = onEveryIsa((bench) => {
      const cache = problem.cache(bench);
      problem.store(bench, cache, problem.all());
      const count = problem.nBlocks * 2 * 16 * BLOCK;
      const both = new Uint8Array(count * 4);
      both.set(cache.k.buffer.download(new Uint8Array(count * 2)));
      both.set(cache.v.buffer.download(new Uint8Array(count * 2)), count * 2);
      return both;
    });
    const halves = new Float16Array(cacheBytes.buffer);
    const block = (pos: number) => problem.blockTables[Math.floor(pos / BLOCK)]!;
    const half = halves.length / 2;
    for (const { pos } of problem.all()) {
      for (let i = 0; i < 2 * 16; i++) {
        const [head, d] = [Math.floor(i / 16), i % 16];
        const place = (block(pos) * 2 + head) * 16 * BLOCK;
        const { key, value } = problem.stored(pos);
        assertEquals(halves[place + d * BLOCK + (pos % BLOCK)], key[i]);
        assertEquals(halves[half + place + (pos % BLOCK) * 16 + d], value[i]);
      }
    }
    const written = halves.filter((value) => !Number.isNaN(value)).length;
    assertEquals(written, 2 * 18 * 2 * 16, "elements written");
  });
});

describe("attention's checks while it runs", () => {
  const problem = new Problem(shape({ lengths: [20, 20] }), 7);

  function failure(change: (rows: Row[], tables: Int32Array) => void, op: "store" | "attend"): ApiqError {
    using bench = new Bench();
    const broken = new Problem(problem.shape, 7);
    const cache = broken.cache(bench);
    broken.store(bench, cache, broken.all());
    bench.context.synchronize();
    const rows: Row[] = [
      { seq: 0, pos: 18 },
      { seq: 1, pos: 19 },
    ];
    change(rows, broken.blockTables);
    return assertThrows(() => {
      broken[op](bench, cache, rows);
      bench.context.synchronize();
    }, ApiqError);
  }

  const cases: [string, string, (rows: Row[], tables: Int32Array) => void][] = [
    ["a negative block", "block -7", (_, tables) => tables.fill(-7, 1, 2)],
    ["a block past the cache", "block 1000000", (_, tables) => tables.fill(1000000, 1, 2)],
    ["a negative position", "position -1", (rows) => rows.splice(0, 1, { seq: -3, pos: 0 }, { seq: 1, pos: -1 })],
    [
      "a position past the block table",
      "position 32",
      (rows) => rows.splice(0, 1, { seq: -1, pos: 0 }, { seq: 0, pos: 32 }),
    ],
  ];
  for (const [name, includes, change] of cases) {
    it(`refuses ${name}`, () => {
      for (const op of ["store", "attend"] as const) {
        const error = failure(change, op);
        assertEquals(error.status, "OUT_OF_RANGE");
        assert(error.message.includes(includes), error.message);
      }
    });
  }

  it("refuses bad shapes", () => {
    using bench = new Bench();
    const cache = problem.cache(bench);
    const rows = problem.all();
    const kv = problem.layout(bench, cache, rows);
    const q = bench.room(rows.length * 4 * 64);
    const y = bench.room(rows.length * 4 * 64);
    const good = { kv, q, y, nHeads: 4, window: 0, scale: 0.125 };
    bench.context.attention(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      const error = assertThrows(() => bench.context.attention({ ...good, ...bad }), ApiqError);
      assertEquals(error.status, status, error.message);
    };
    refused({ nHeads: 3 }, "INVALID_ARGUMENT");
    refused({ nHeads: 8 }, "OUT_OF_RANGE");
    refused({ y: q }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, headDim: 40 } }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, headDim: 272 } }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, blockSize: 32 } }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, dtype: 2 } }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, nBlocks: 1000 } }, "OUT_OF_RANGE");
    refused({ kv: { ...kv, nBlocks: 2 ** 32 - 1, nKvHeads: 2 ** 31 } }, "INVALID_ARGUMENT");
    refused({ kv: { ...kv, maxBlocks: 2 ** 31 } }, "OUT_OF_RANGE");
    refused({ kv: { ...kv, rows: 0 } }, "INVALID_ARGUMENT");
  });
});
