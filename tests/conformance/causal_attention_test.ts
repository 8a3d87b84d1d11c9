import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, type Ref } from "../../ffi/mod.ts";
import type { CausalAttentionArgs, CausalAttentionBackwardArgs } from "../../ffi/types.ts";
import {
  type CausalInputs,
  type CausalShape,
  causalAttention,
  causalAttentionBackward,
} from "./causal_attention_reference.ts";
import { assertClose, assertSameBits, Bench, onEveryIsa, Random } from "./harness.ts";

const shape = (change: Partial<CausalShape>): CausalShape => {
  const headDim = change.headDim ?? 16;
  return {
    nSeqs: 1,
    seqLen: 8,
    nHeads: 2,
    nKvHeads: 1,
    headDim,
    window: 0,
    scale: Math.fround(1 / Math.sqrt(headDim)),
    rowStart: null,
    ...change,
  };
};

/** Row starts of documents of random lengths packed into each sequence. */
function packed(random: Random, nSeqs: number, seqLen: number, longest: number): number[] {
  const starts: number[] = [];
  for (let seq = 0; seq < nSeqs; seq++) {
    let start = 0;
    let next = 0;
    for (let t = 0; t < seqLen; t++) {
      if (t === next) {
        start = t;
        next = t + 1 + random.integer(longest);
      }
      starts.push(start);
    }
  }
  return starts;
}

class Problem {
  readonly shape: CausalShape;
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly dy: Float32Array;

  constructor(given: CausalShape, seed = 1, deviation = 1) {
    const random = new Random(seed);
    this.shape = given;
    const rows = given.nSeqs * given.seqLen * given.headDim;
    this.q = random.normals(rows * given.nHeads, deviation);
    this.k = random.normals(rows * given.nKvHeads, deviation);
    this.v = random.normals(rows * given.nKvHeads);
    this.dy = random.normals(rows * given.nHeads);
  }

  #with(given: CausalShape, from: number, rows: number): Problem {
    const problem = new Problem({ ...given, seqLen: 1, nSeqs: 1 });
    const part = (values: Float32Array) => {
      const width = values.length / (this.shape.nSeqs * this.shape.seqLen);
      return values.slice(from * width, (from + rows) * width);
    };
    return Object.assign(problem, {
      shape: given,
      q: part(this.q),
      k: part(this.k),
      v: part(this.v),
      dy: part(this.dy),
    });
  }

  /** One of the sequences, alone. */
  sequence(index: number): Problem {
    const { seqLen } = this.shape;
    return this.#with({ ...this.shape, nSeqs: 1 }, index * seqLen, seqLen);
  }

  /** The first rows of the first sequence. */
  start(seqLen: number): Problem {
    return this.#with({ ...this.shape, nSeqs: 1, seqLen }, 0, seqLen);
  }

  get lseCount(): number {
    return this.q.length / this.shape.headDim;
  }

  inputs(): CausalInputs {
    return { q: Float64Array.from(this.q), k: Float64Array.from(this.k), v: Float64Array.from(this.v) };
  }

  args(bench: Bench): CausalAttentionArgs & { y: Ref; lse: Ref } {
    const { rowStart, ...sizes } = this.shape;
    return {
      ...sizes,
      rowStart: rowStart === null ? null : bench.i32(rowStart),
      q: bench.f32(this.q),
      k: bench.f32(this.k),
      v: bench.f32(this.v),
      y: bench.room(this.q.length),
      lse: bench.room(this.lseCount),
    };
  }

  backwardArgs(
    bench: Bench,
    forward: CausalAttentionArgs,
  ): CausalAttentionBackwardArgs & { dq: Ref; dk: Ref; dv: Ref } {
    return {
      ...forward,
      dy: bench.f32(this.dy),
      dq: bench.room(this.q.length),
      dk: bench.room(this.k.length),
      dv: bench.room(this.v.length),
    };
  }

  /** y, lse, dq, dk, dv, one behind the other. */
  run(bench: Bench): Float32Array {
    const forward = this.args(bench);
    bench.context.causalAttention(forward);
    const backward = this.backwardArgs(bench, forward);
    bench.context.causalAttentionBackward(backward);
    bench.context.synchronize();
    const { q, k, v, lseCount } = this;
    const parts = [
      bench.read(forward.y, q.length),
      bench.read(forward.lse, lseCount),
      bench.read(backward.dq, q.length),
      bench.read(backward.dk, k.length),
      bench.read(backward.dv, v.length),
    ];
    return Float32Array.from(parts.flatMap((part) => [...part]));
  }

  /** Holds `result` of run() against float64. */
  check(result: Float32Array, bounds: { y: number; gradient: number }, what: string): void {
    const inputs = this.inputs();
    const { y, lse } = causalAttention(this.shape, inputs);
    const gradients = causalAttentionBackward(this.shape, inputs, Float64Array.from(this.dy));
    let from = 0;
    const next = (expected: Float64Array, bound: number, name: string) => {
      assertClose(result.subarray(from, from + expected.length), expected, bound, `${name} of ${what}`);
      from += expected.length;
    };
    next(y, bounds.y, "y");
    next(lse, bounds.y, "lse");
    next(gradients.q, bounds.gradient, "dq");
    next(gradients.k, bounds.gradient, "dk");
    next(gradients.v, bounds.gradient, "dv");
    assertEquals(from, result.length);
  }
}

/** Errors of the tests below are at most half of it. */
const BOUNDS = { y: 2e-6, gradient: 7e-6 };

function check(change: Partial<CausalShape>, seed = 1): void {
  const problem = new Problem(shape(change), seed);
  const { rowStart: _, ...sizes } = change;
  problem.check(
    onEveryIsa((bench) => problem.run(bench)),
    BOUNDS,
    JSON.stringify(sizes),
  );
}

describe("the float64 reference of causal attention", () => {
  it("has the gradients that central differences of its output have", () => {
    for (const change of [
      { seqLen: 6, nHeads: 4, nKvHeads: 2, nSeqs: 2 },
      { seqLen: 7, window: 3 },
      { seqLen: 8, rowStart: [0, 0, 2, 2, 0, 5, 6, 1] },
    ]) {
      const given = shape({ headDim: 8, ...change });
      const problem = new Problem(given, 5);
      const inputs = problem.inputs();
      const dy = Float64Array.from(problem.dy);
      const loss = () => causalAttention(given, inputs).y.reduce((sum, value, i) => sum + value * dy[i]!, 0);
      const gradients = causalAttentionBackward(given, inputs, dy);
      const step = 1e-4;
      for (const name of ["q", "k", "v"] as const) {
        const differences = inputs[name].map((value, i) => {
          inputs[name][i] = value + step;
          const above = loss();
          inputs[name][i] = value - step;
          const below = loss();
          inputs[name][i] = value;
          return (above - below) / (2 * step);
        });
        assertClose(gradients[name], differences, 1e-7, `d${name} of ${JSON.stringify(change)}`);
      }
    }
  });
});

describe("causal attention", () => {
  it("equals float64 with its gradients: lengths around tiles, head sizes, groups", () => {
    [
      { seqLen: 1, headDim: 8 },
      { seqLen: 2, headDim: 24, nHeads: 3, nKvHeads: 3 },
      { seqLen: 15, nSeqs: 3, headDim: 40, nHeads: 4, nKvHeads: 2 },
      { seqLen: 64, headDim: 64 },
      { seqLen: 65, headDim: 80, nHeads: 3 },
      { seqLen: 129, nSeqs: 2, headDim: 16, nHeads: 4, nKvHeads: 4 },
      { seqLen: 131, headDim: 64, nHeads: 6, nKvHeads: 2 },
      { seqLen: 70, headDim: 256, nHeads: 1 },
      { seqLen: 67, headDim: 128, nHeads: 3 },
      { seqLen: 330, headDim: 8, nHeads: 2, nKvHeads: 2 },
    ].forEach(check);
  });

  it("equals float64 with windows, from one position to the whole sequence", () => {
    for (const window of [1, 2, 63, 64, 65, 66, 100, 128, 129, 130, 299, 300, 2 ** 32 - 1]) {
      check({ seqLen: 300, nHeads: 2, nKvHeads: 2, headDim: 8, window }, window % 1000);
    }
  });

  it("equals float64 where documents are packed into a sequence, and where starts lie anywhere", () => {
    const random = new Random(9);
    for (const longest of [3, 60, 200]) {
      check({ nSeqs: 2, seqLen: 290, headDim: 16, rowStart: packed(random, 2, 290, longest) });
    }
    const anywhere = Array.from({ length: 2 * 290 }, (_, i) => random.integer((i % 290) + 1));
    check({ nSeqs: 2, seqLen: 290, headDim: 16, rowStart: anywhere });
    check({ nSeqs: 2, seqLen: 290, headDim: 16, rowStart: anywhere, window: 100 });
    check({ nSeqs: 2, seqLen: 290, headDim: 16, rowStart: Array.from({ length: 580 }, (_, i) => i % 290) });
  });

  it("stays exact where scores are large and the softmax is all one position", () => {
    const problem = new Problem(shape({ seqLen: 140, headDim: 64, scale: 1 }), 3, 3);
    const result = onEveryIsa((bench) => problem.run(bench));
    // Scores are some hundreds, and rounded to float32 are off by some 1e-5 of themselves as exponents.
    problem.check(result, { y: 2e-4, gradient: 2e-3 }, "large scores");
  });

  it("gives a sequence the same bits alone, beside others, and on any number of threads", () => {
    const three = new Problem(shape({ nSeqs: 3, seqLen: 200, nHeads: 6, nKvHeads: 2, headDim: 24 }), 7);
    using bench = new Bench();
    const together = three.run(bench);
    for (const threads of [2, 3, 5]) {
      using many = new Bench("auto", threads);
      assertSameBits(three.run(many), together, `${threads} threads`);
    }
    for (let seq = 0; seq < 3; seq++) {
      const part = (values: Float32Array) =>
        values.subarray((values.length / 3) * seq, (values.length / 3) * (seq + 1));
      const alone = three.sequence(seq).run(bench);
      let from = 0;
      let aloneFrom = 0;
      for (const length of [three.q.length, three.lseCount, three.q.length, three.k.length, three.v.length]) {
        const expected = part(together.subarray(from, from + length));
        assertSameBits(alone.subarray(aloneFrom, aloneFrom + length / 3), expected, `sequence ${seq}`);
        from += length;
        aloneFrom += length / 3;
      }
    }
  });

  it("gives a row the same bits whatever follows it", () => {
    const problem = new Problem(shape({ seqLen: 180, nHeads: 4, nKvHeads: 2, headDim: 32 }), 8);
    using bench = new Bench();
    const whole = problem.run(bench);
    for (const seqLen of [1, 63, 64, 65, 130]) {
      const start = problem.start(seqLen);
      assertSameBits(start.run(bench).subarray(0, start.q.length), whole.subarray(0, start.q.length), `${seqLen} rows`);
    }
  });
});

describe("causal attention's checks", () => {
  const good = new Problem(shape({ nSeqs: 2, seqLen: 9, nHeads: 4, nKvHeads: 2, headDim: 16 }), 1);

  function runs(bench: Bench): ((change: Partial<CausalAttentionBackwardArgs>) => void)[] {
    const forward = good.args(bench);
    const backward = good.backwardArgs(bench, forward);
    return [
      (change) => bench.context.causalAttention({ ...forward, ...change }),
      (change) => bench.context.causalAttentionBackward({ ...backward, ...change }),
    ];
  }

  it("refuses bad shapes", () => {
    using bench = new Bench();
    for (const run of runs(bench)) {
      run({});
      const refused = (change: Partial<CausalAttentionBackwardArgs>, status: string) => {
        const error = assertThrows(() => run(change), ApiqError);
        assertEquals(error.status, status, error.message);
      };
      for (const name of ["nSeqs", "seqLen", "nHeads", "nKvHeads", "headDim"] as const)
        refused({ [name]: 0 }, "INVALID_ARGUMENT");
      refused({ nHeads: 3 }, "INVALID_ARGUMENT");
      refused({ headDim: 12 }, "INVALID_ARGUMENT");
      refused({ headDim: 264 }, "INVALID_ARGUMENT");
      refused({ seqLen: 2 ** 31 }, "INVALID_ARGUMENT");
      refused({ nSeqs: 2 ** 32 - 1, seqLen: 2 ** 31 - 1, nHeads: 2 ** 32 - 2 }, "INVALID_ARGUMENT");
      refused({ nSeqs: 3 }, "OUT_OF_RANGE");
      refused({ headDim: 24 }, "OUT_OF_RANGE");
      refused({ nHeads: 6 }, "OUT_OF_RANGE");
      refused({ rowStart: bench.i32(new Int32Array(17)) }, "OUT_OF_RANGE");
    }
  });

  it("refuses tensors that reach past their buffers, and outputs that overlap anything", () => {
    using bench = new Bench();
    const forward = good.args(bench);
    const backward = good.backwardArgs(bench, forward);
    const starts = bench.i32(new Int32Array(1000));
    const [attend, attendBackward] = runs(bench);
    const cases = [
      { run: attend!, args: forward, outputs: ["y", "lse"], inputs: ["q", "k", "v"] },
      {
        run: attendBackward!,
        args: backward,
        outputs: ["dq", "dk", "dv"],
        inputs: ["q", "k", "v", "y", "lse", "dy"],
      },
    ];
    for (const { run, args, outputs, inputs } of cases) {
      const refused = (change: Partial<CausalAttentionBackwardArgs>, status: string, what: string) => {
        const error = assertThrows(() => run({ rowStart: starts, ...change }), ApiqError);
        assertEquals(error.status, status, `${what}: ${error.message}`);
      };
      const ref = (name: string) => args[name as keyof typeof args] as Ref;
      for (const name of [...outputs, ...inputs]) refused({ [name]: ref(name).buffer.at(4) }, "OUT_OF_RANGE", name);
      // Everything fits into the biggest buffer, so that only the overlap is wrong.
      for (const output of outputs) {
        const others = [...outputs, ...inputs, "rowStart"].filter((name) => name !== output);
        for (const other of others) {
          const shared = bench.room(good.q.length);
          refused({ [output]: shared, [other]: shared }, "INVALID_ARGUMENT", `${output} and ${other}`);
        }
      }
    }
  });

  it("reports row starts outside the sequence so far, forward and backward, and reads nothing out of bounds", () => {
    for (const [row, start, text] of [
      [3, 4, "row 3 begins at position 4, expected 0 to 3"],
      [0, -1, "row 0 begins at position -1, expected 0 to 0"],
      [12, 4, "row 12 begins at position 4, expected 0 to 3"],
      [17, 2 ** 31 - 1, "row 17 begins at position 2147483647, expected 0 to 8"],
      [17, -(2 ** 31), "row 17 begins at position -2147483648, expected 0 to 8"],
    ] as const) {
      using bench = new Bench();
      const starts = new Int32Array(18);
      starts[row] = start;
      const rowStart = bench.i32(starts);
      for (const run of runs(bench)) {
        run({ rowStart });
        const error = assertThrows(() => bench.context.synchronize(), ApiqError);
        assertEquals(error.status, "OUT_OF_RANGE");
        assertStringIncludes(error.message, text);
      }
    }
  });
});
