/** topLogProbs, teacherKl and teacherKlBackward against float64, and the gradient against central differences of float64. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";
import { centralDifference } from "./quantizer_reference.ts";

interface Case {
  readonly rows: number;
  readonly vocab: number;
  readonly k: number;
  readonly temperature: number;
}

/** Around a vector and a chunk of sums, k up to the vocabulary, temperatures on both sides of 1. */
const CASES: readonly Case[] = [
  { rows: 1, vocab: 1, k: 1, temperature: 1 },
  { rows: 3, vocab: 17, k: 5, temperature: 2 },
  { rows: 2, vocab: 16, k: 16, temperature: 1 },
  { rows: 4, vocab: 320, k: 1, temperature: 0.5 },
  { rows: 3, vocab: 321, k: 320, temperature: 3 },
  { rows: 2, vocab: 4097, k: 300, temperature: 1 },
  { rows: 2, vocab: 49152, k: 64, temperature: 1.5 },
];

const described = ({ rows, vocab, k, temperature }: Case) => `${k} of ${rows} x ${vocab} at ${temperature}`;

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** log sum exp */
function logSum(values: ArrayLike<number>): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i]!);
  let total = 0;
  for (let i = 0; i < values.length; i++) total += Math.exp(values[i]! - most);
  return most + Math.log(total);
}

/** The k largest, in order of (value descending, index ascending), with log softmax at the temperature. */
function top(logits: Float32Array, { k, temperature }: Case): { ids: number[]; logProbs: number[] } {
  const ids = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, k);
  const total = logSum(Float64Array.from(logits, (value) => value / temperature));
  return { ids, logProbs: ids.map((id) => logits[id]! / temperature - total) };
}

/** Teacher and student of some rows. */
class Problem {
  readonly logits: Float32Array;
  readonly targets: Int32Array;
  readonly ids: Int32Array;
  readonly logProbs: Float32Array;

  constructor(readonly of: Case) {
    const { rows, vocab, k } = of;
    const random = new Random(vocab + k);
    this.logits = random.normals(rows * vocab, 3);
    const teacher = this.logits.map((value) => value + 0.7 * random.normal());
    this.targets = Int32Array.from({ length: rows }, (_, row) => (row === 1 ? -1 : random.integer(vocab)));
    this.ids = new Int32Array(rows * k);
    this.logProbs = new Float32Array(rows * k);
    for (let row = 0; row < rows; row++) {
      const found = top(teacher.slice(row * vocab, (row + 1) * vocab), of);
      this.ids.set(found.ids, row * k);
      this.logProbs.set(found.logProbs, row * k);
    }
  }

  row(row: number): Float64Array {
    const { vocab } = this.of;
    return Float64Array.from(this.logits.subarray(row * vocab, (row + 1) * vocab));
  }

  /** KL of a row in float64, from the definition. */
  kl(row: number, logits: Float64Array): number {
    const { vocab, k, temperature } = this.of;
    const ids = [...this.ids.subarray(row * k, (row + 1) * k)];
    const logP = [...this.logProbs.subarray(row * k, (row + 1) * k)];
    const total = sum(logP.map(Math.exp));
    const scaled = logits.map((value) => value / temperature);
    const all = logSum(scaled);
    const excess = k === vocab || total > 1 ? Math.log(total) : 0;
    let kl = sum(ids.map((id, i) => Math.exp(logP[i]! - excess) * (logP[i]! - excess - (scaled[id]! - all))));
    const rest = k === vocab ? 0 : Math.max(0, 1 - total);
    const named = new Set(ids);
    if (rest > 0) kl += rest * (Math.log(rest) - (logSum(scaled.filter((_, id) => !named.has(id))) - all));
    return kl;
  }

  nll(row: number, logits: Float64Array): number {
    return logSum(logits) - logits[this.targets[row]!]!;
  }

  put(bench: Bench) {
    const { rows, vocab, k, temperature } = this.of;
    const { logits, targets, ids, logProbs } = this;
    return {
      ...{ logits: bench.f32(logits), targets: bench.i32(targets), ids: bench.i32(ids), logProbs: bench.f32(logProbs) },
      ...{ rows, vocab, k, temperature },
    };
  }
}

describe("topLogProbs", () => {
  it("ranks tokens and gives their float64 log-probabilities", () => {
    for (const of of CASES) {
      const { rows, vocab, k, temperature } = of;
      const logits = new Random(vocab).normals(rows * vocab, 4);
      // Equal logits: the lower id comes first.
      if (vocab > 12) logits[12] = logits[3] = 30;
      const all = onEveryIsa((bench) => {
        const [ids, logProbs] = [bench.room(rows * k), bench.room(rows * k)];
        bench.context.topLogProbs({ logits: bench.f32(logits), ids, logProbs, rows, vocab, k, temperature });
        return Float64Array.from([...bench.readInts(ids, rows * k), ...bench.read(logProbs, rows * k)]);
      });
      for (let row = 0; row < rows; row++) {
        const expected = top(logits.slice(row * vocab, (row + 1) * vocab), of);
        assertEquals([...all.subarray(row * k, (row + 1) * k)], expected.ids, described(of));
        const actual = all.subarray((rows + row) * k, (rows + row + 1) * k);
        for (let i = 0; i < k; i++) {
          const bound = 2e-6 + 1.2e-7 * Math.abs(expected.logProbs[i]!);
          assertClose([actual[i]!], [expected.logProbs[i]!], bound, `${described(of)}, row ${row}`);
        }
      }
    }
  });

  it("reports a row that cannot be ranked and ranks the others", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      using bench = new Bench();
      const [ids, logProbs] = [bench.room(4), bench.room(4)];
      const logits = bench.f32([0, 2, 1, 0, bad, 0]);
      bench.context.topLogProbs({ logits, ids, logProbs, rows: 2, vocab: 3, k: 2, temperature: 1 });
      const error = assertThrows(() => bench.readInts(ids, 4), ApiqError);
      assertEquals(error.status, "INVALID_ARGUMENT");
      assertStringIncludes(error.message, "row 1");
      assertEquals([...bench.readInts(ids, 4)], [1, 2, -1, -1]);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      ...{ logits: bench.f32(new Float32Array(32)), ids: bench.room(8), logProbs: bench.room(8) },
      ...{ rows: 2, vocab: 16, k: 4, temperature: 1 },
    };
    bench.context.topLogProbs(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.topLogProbs({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ k: 0 }, "INVALID_ARGUMENT");
    refused({ vocab: 3, k: 4 }, "INVALID_ARGUMENT");
    refused({ temperature: 0 }, "INVALID_ARGUMENT");
    refused({ k: 5 }, "OUT_OF_RANGE");
    refused({ ids: good.logProbs }, "INVALID_ARGUMENT");
    refused({ logProbs: good.logits }, "INVALID_ARGUMENT");
  });
});

describe("teacherKl", () => {
  it("equals float64: the teacher's tokens and the rest as one", () => {
    for (const of of CASES) {
      const problem = new Problem(of);
      const { rows } = of;
      const kl = onEveryIsa((bench) => {
        const result = bench.room(rows);
        bench.context.teacherKl({ ...problem.put(bench), kl: result });
        return bench.read(result, rows);
      });
      for (let row = 0; row < rows; row++) {
        const expected = problem.targets[row]! < 0 ? 0 : problem.kl(row, problem.row(row));
        assertClose([kl[row]!], [expected], 1e-6 * Math.max(1, Math.abs(expected)), `${described(of)}, row ${row}`);
      }
    }
  });

  it("is 0 between equal distributions, and finite where the student leaves the rest next to nothing", () => {
    const kl = onEveryIsa((bench) => {
      const result = bench.room(2);
      const logits = bench.f32([0, 1, 2, 3, 90, 0, 0, -30]);
      const teacher = top(Float32Array.of(0, 1, 2, 3), { rows: 1, vocab: 4, k: 2, temperature: 1 });
      bench.context.teacherKl({
        ...{ logits, targets: bench.i32([0, 0]), ids: bench.i32([...teacher.ids, 0, 1]) },
        logProbs: bench.f32([...teacher.logProbs, Math.log(0.5), Math.log(0.25)]),
        ...{ kl: result, rows: 2, vocab: 4, k: 2, temperature: 1 },
      });
      return bench.read(result, 2);
    });
    assertClose([kl[0]!], [0], 1e-7, "equal");
    // q is 1, e^-90, and e^-90 (1 + e^-30) for the rest.
    const expected = 0.5 * Math.log(0.5) + 2 * 0.25 * (Math.log(0.25) + 90);
    assertClose([kl[1]!], [expected], 1e-5, "far apart");
  });

  it("normalises a teacher whose probabilities sum to more than 1", () => {
    using bench = new Bench();
    const kl = bench.room(1);
    const logProbs = bench.f32([Math.log(0.8), Math.log(0.8)]);
    const inputs = { logits: bench.f32([0, 0, -200]), targets: bench.i32([0]), ids: bench.i32([0, 1]), logProbs };
    bench.context.teacherKl({ ...inputs, kl, rows: 1, vocab: 3, k: 2, temperature: 1 });
    assertClose(bench.read(kl, 1), [0], 1e-7, "kl");
  });
});

describe("teacherKlBackward", () => {
  it("equals differences of the float64 losses, apart and in place", () => {
    for (const of of CASES) {
      for (const [klScale, nllScale] of [
        [0.75, 0],
        [0.5, 0.25],
        [0, 2],
      ] as const) {
        const problem = new Problem(of);
        const { rows, vocab, k, temperature } = of;
        const both = onEveryIsa((bench) => {
          const inputs = problem.put(bench);
          const apart = bench.room(rows * vocab);
          bench.context.teacherKlBackward({ ...inputs, grad: apart, klScale, nllScale });
          bench.context.teacherKlBackward({ ...inputs, grad: inputs.logits, klScale, nllScale });
          return Float32Array.from([...bench.read(apart, rows * vocab), ...bench.read(inputs.logits, rows * vocab)]);
        });
        const grad = both.subarray(0, rows * vocab);
        assertEquals(both.slice(rows * vocab), grad.slice());
        for (let row = 0; row < rows; row++) {
          const target = problem.targets[row]!;
          const logits = problem.row(row);
          if (target < 0) {
            assert(grad.subarray(row * vocab, (row + 1) * vocab).every((value) => value === 0));
            continue;
          }
          const named = problem.ids.subarray(row * k, row * k + 4);
          const places = new Set([0, Math.min(5, vocab - 1), vocab - 1, target, ...named]);
          const loss = (place: number) => (value: number) => {
            const moved = logits.with(place, value);
            return klScale * problem.kl(row, moved) + nllScale * problem.nll(row, moved);
          };
          const size = klScale / temperature + nllScale;
          for (const place of places) {
            const slope = centralDifference(loss(place), logits[place]!, 1e-4);
            // Each term is a probability with a relative error around 1e-6; differences lose 1e-13 / 1e-4.
            const bound = size * (1e-6 * Math.min(1, Math.abs(slope) + 1e-3) + 4e-9) + 1e-9;
            assertClose([grad[row * vocab + place]!], [slope], bound, `${described(of)}: ${row}, ${place}`);
          }
        }
      }
    }
  });

  it("sums to 0 over a row: what the teacher's tokens gain, the others lose", () => {
    const problem = new Problem({ rows: 1, vocab: 1000, k: 8, temperature: 2 });
    using bench = new Bench();
    const inputs = problem.put(bench);
    bench.context.teacherKlBackward({ ...inputs, grad: inputs.logits, klScale: 4, nllScale: 0 });
    const total = bench.read(inputs.logits, 1000).reduce((all, value) => all + value, 0);
    assertClose([total], [0], 1e-6, "sum");
  });

  it("is tokenNllBackward where the teacher has no part", () => {
    const problem = new Problem({ rows: 3, vocab: 500, k: 7, temperature: 1 });
    using bench = new Bench();
    const inputs = problem.put(bench);
    const [mixed, plain] = [bench.room(1500), bench.room(1500)];
    const { logits, targets, rows, vocab } = inputs;
    bench.context.teacherKlBackward({ ...inputs, grad: mixed, klScale: 0, nllScale: 0.5 });
    bench.context.tokenNllBackward({ logits, targets, grad: plain, rows, vocab, scale: 0.5 });
    assertClose(bench.read(mixed, 1500), bench.read(plain, 1500), 1e-7, "gradient");
  });

  it("reports tokens that cannot be, leaves their row at 0 and does the others", () => {
    for (const [ids, target, text] of [
      [[0, 4], 0, "received token 4, which is not in the vocabulary"],
      [[-1, 0], 0, "received token -1, which is not in the vocabulary"],
      [[2, 2], 0, "received token 2 twice"],
      [[0, 1], 4, "received target 4"],
    ] as const) {
      using bench = new Bench();
      const [kl, grad] = [bench.room(2), bench.room(8)];
      const inputs = {
        ...{ logits: bench.f32(new Float32Array(8)), targets: bench.i32([0, target]), ids: bench.i32([0, 1, ...ids]) },
        ...{ logProbs: bench.f32(new Float32Array(4).fill(Math.log(0.5))), rows: 2, vocab: 4, k: 2, temperature: 1 },
      };
      bench.context.teacherKl({ ...inputs, kl });
      const error = assertThrows(() => bench.read(kl, 2), ApiqError);
      assertEquals(error.status, "OUT_OF_RANGE");
      assertStringIncludes(error.message, `row 1: ${text}`);
      assertClose(bench.read(kl, 2), [Math.log(2), 0], 1e-6, "kl");
      bench.context.teacherKlBackward({ ...inputs, grad, klScale: 1, nllScale: 0 });
      assertStringIncludes(assertThrows(() => bench.read(grad, 8), ApiqError).message, text);
      assertClose(bench.read(grad, 8), [-0.25, -0.25, 0.25, 0.25, 0, 0, 0, 0], 1e-7, "gradient");
    }
  });

  it("shows a NaN of the student's, and only in its row", () => {
    using bench = new Bench();
    const kl = bench.room(2);
    const inputs = {
      ...{ logits: bench.f32([0, Number.NaN, 0, 0, 0, 0]), targets: bench.i32([0, 0]), ids: bench.i32([0, 0]) },
      ...{ logProbs: bench.f32([-1, -1]), rows: 2, vocab: 3, k: 1, temperature: 1 },
    };
    bench.context.teacherKl({ ...inputs, kl });
    const [bad, good] = bench.read(kl, 2);
    assert(Number.isNaN(bad) && Number.isFinite(good));
    const grad = bench.room(6);
    bench.context.teacherKlBackward({ ...inputs, grad, klScale: 1, nllScale: 1 });
    assert(bench.read(grad, 6).every((value, i) => Number.isNaN(value) === i < 3));
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      ...{ logits: bench.f32(new Float32Array(32)), targets: bench.i32([0, 0]), ids: bench.i32([0, 1, 2, 0, 1, 2]) },
      ...{ logProbs: bench.f32(new Float32Array(6).fill(-2)), grad: bench.room(32) },
      ...{ rows: 2, vocab: 16, k: 3, temperature: 1, klScale: 1, nllScale: 1 },
    };
    bench.context.teacherKlBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.teacherKlBackward({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ rows: 0 }, "INVALID_ARGUMENT");
    refused({ k: 17 }, "INVALID_ARGUMENT");
    refused({ k: 4 }, "OUT_OF_RANGE");
    refused({ temperature: -1 }, "INVALID_ARGUMENT");
    refused({ grad: good.ids, rows: 1, vocab: 4 }, "INVALID_ARGUMENT");
    refused({ grad: good.logProbs, rows: 1, vocab: 4 }, "INVALID_ARGUMENT");
    refused({ grad: good.logits.buffer.at(4), vocab: 15 }, "INVALID_ARGUMENT");
  });
});
