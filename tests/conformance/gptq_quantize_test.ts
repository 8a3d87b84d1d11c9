import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError, type Ref } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

interface Problem {
  out: number;
  into: number;
  group: number;
  bits: 2 | 3 | 4 | 8;
  w: Float32Array;
  /** Upper triangular, with NaNs below the diagonal that nobody may read. */
  factor: Float32Array;
}

interface Result {
  w: ArrayLike<number>;
  scale: ArrayLike<number>;
  zero: ArrayLike<number>;
  q: Uint8Array;
}

function problem(out: number, into: number, group: number, bits: Problem["bits"], coupling = 0.4): Problem {
  const random = new Random(out * 31 + into * 7 + group + bits);
  const factor = new Float32Array(into * into).fill(Number.NaN);
  for (let i = 0; i < into; i++) {
    factor[i * into + i] = 0.5 + random.uniform();
    for (let j = i + 1; j < into; j++) factor[i * into + j] = (random.normal() * coupling) / Math.sqrt(into);
  }
  return { out, into, group, bits, w: random.normals(out * into), factor };
}

const roundToEven = (x: number): number => {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
};

/** OPTQ column by column in float64, with no blocks. Also how near a rounding boundary the closest decision of each row came. */
function reference({ out, into, group, bits, w: weights, factor }: Problem): Result & { margins: Float64Array } {
  const w = Float64Array.from(weights);
  const groups = into / group;
  const scale = new Float64Array(out * groups);
  const zero = new Float64Array(out * groups);
  const q = new Uint8Array(out * into);
  const levels = 2 ** bits - 1;
  const margins = new Float64Array(out).fill(1);
  for (let r = 0; r < out; r++) {
    const note = (x: number): number => {
      margins[r] = Math.min(margins[r]!, Math.abs(x - Math.floor(x) - 0.5));
      return roundToEven(x);
    };
    for (let i = 0; i < into; i++) {
      const g = r * groups + Math.floor(i / group);
      if (i % group === 0) {
        const columns = w.subarray(r * into + i, r * into + i + group);
        const low = columns.reduce((a, b) => Math.min(a, b), 0);
        const high = columns.reduce((a, b) => Math.max(a, b), 0);
        const exact = Math.min(Math.max((high - low) / levels, 1e-5), 1e4);
        scale[g] = Math.f16round(exact);
        // A scale next to a float16 boundary may round the other way in float32.
        if (Math.f16round(exact * (1 - 4e-6)) !== Math.f16round(exact * (1 + 4e-6))) margins[r] = 0;
        zero[g] = Math.min(levels, note(-low / scale[g]!));
      }
      const value = w[r * into + i]!;
      const code = Math.min(levels, Math.max(0, note(value / scale[g]!) + zero[g]!));
      q[r * into + i] = code;
      w[r * into + i] = scale[g]! * (code - zero[g]!);
      const error = (value - w[r * into + i]!) / factor[i * into + i]!;
      for (let j = i + 1; j < into; j++) w[r * into + j] = w[r * into + j]! - error * factor[i * into + j]!;
    }
  }
  return { w, scale, zero, q, margins };
}

interface Places {
  w: Ref;
  scale: Ref;
  zero: Ref;
  q: Ref;
}

function run(bench: Bench, { out, into, group, bits, w, factor }: Problem): Places {
  const groups = (out * into) / group;
  const places = {
    w: bench.f32(w),
    scale: bench.room(groups),
    zero: bench.room(groups),
    q: bench.put(new Uint8Array(out * into)),
  };
  const shape = { outFeatures: out, inFeatures: into, group, bits };
  bench.context.gptqQuantize({ ...places, inverseFactor: bench.f32(factor), ...shape });
  return places;
}

/** All outputs of the op one after another. */
function outputs(bench: Bench, p: Problem): Float32Array {
  const { w, scale, zero, q } = run(bench, p);
  const count = p.out * p.into;
  const codes = q.buffer.download(new Uint8Array(count), q.offset);
  const groups = count / p.group;
  return Float32Array.from([
    ...bench.read(w, count),
    ...bench.read(scale, groups),
    ...bench.read(zero, groups),
    ...codes,
  ]);
}

function split(values: Float32Array, { out, into, group }: Problem): Result {
  const count = out * into;
  const groups = count / group;
  return {
    w: values.subarray(0, count),
    scale: values.subarray(count, count + groups),
    zero: values.subarray(count + groups, count + 2 * groups),
    q: Uint8Array.from(values.subarray(count + 2 * groups)),
  };
}

describe("gptqQuantize", () => {
  it("equals float64 column by column, whatever the blocks, in every row without a close decision", () => {
    let compared = 0;
    let all = 0;
    for (const [out, into, group, bits] of [
      [1, 8, 8, 2],
      [5, 64, 64, 2],
      [33, 192, 64, 2],
      [40, 256, 32, 3],
      [17, 144, 48, 4],
      [9, 384, 128, 4],
      [35, 320, 160, 3],
      [4, 520, 520, 8],
    ] as const) {
      const p = problem(out, into, group, bits);
      const result = split(
        onEveryIsa((bench) => outputs(bench, p)),
        p,
      );
      const expected = reference(p);
      const groups = into / group;
      for (let r = 0; r < out; r++) {
        all++;
        // One decision that float32 takes the other way sends the rest of the row elsewhere. Values reach 20, errors some 1e-5
        // steps.
        if (expected.margins[r]! < (bits === 8 ? 3e-4 : 3e-5)) continue;
        compared++;
        const what = `${out} x ${into}, group ${group}, ${bits} bits, row ${r}`;
        const row = (values: ArrayLike<number>, size: number): number[] =>
          Array.from({ length: size }, (_, i) => values[r * size + i]!);
        assertEquals(
          [...result.q.subarray(r * into, (r + 1) * into)],
          [...expected.q.subarray(r * into, (r + 1) * into)],
          what,
        );
        assertEquals(row(result.scale, groups), row(expected.scale, groups), what);
        assertEquals(row(result.zero, groups), row(expected.zero, groups), what);
        assertClose(row(result.w, into), row(expected.w, into), 1e-6, what);
      }
    }
    assert(compared > all * 0.6, `only ${compared} of ${all} rows were compared`);
  });

  it("is plain min-max rounding where the columns do not touch each other", () => {
    const p = problem(21, 128, 32, 3, 0);
    const result = split(
      onEveryIsa((bench) => outputs(bench, p)),
      p,
    );
    const levels = 7;
    for (let g = 0; g < result.scale.length; g++) {
      const columns = p.w.subarray(g * 32, (g + 1) * 32);
      const low = Math.min(0, ...columns);
      const high = Math.max(0, ...columns);
      const scale = Math.f16round(Math.fround(Math.fround(high - low) / levels));
      assertEquals(result.scale[g], scale);
      assertEquals(result.zero[g], Math.min(levels, roundToEven(Math.fround(-low / scale))));
      for (const [i, value] of columns.entries()) {
        const code = Math.min(levels, Math.max(0, roundToEven(Math.fround(value / scale)) + result.zero[g]!));
        assertEquals(result.q[g * 32 + i], code);
        assertEquals(result.w[g * 32 + i], Math.fround(scale * (code - result.zero[g]!)));
      }
    }
  });

  it("keeps groups of zeros, and of one sign, in range", () => {
    const p = problem(2, 32, 16, 2, 0);
    p.w.fill(0, 0, 16);
    for (let i = 16; i < 32; i++) p.w[i] = 3 + i / 32;
    for (let i = 32; i < 48; i++) p.w[i] = -1 - i / 64;
    using bench = new Bench();
    const result = split(outputs(bench, p), p);
    assertEquals([...Array.from(result.w).slice(0, 16)], new Array(16).fill(0));
    assertEquals(Array.from(result.zero).slice(0, 3), [0, 0, 3]);
    assert(result.q.every((code) => code <= 3));
  });

  it("lowers the error that H measures below that of plain rounding", () => {
    // H = X^T X of correlated inputs; U from the definition U^T U = H^-1 through the ops themselves.
    const [out, into, samples] = [24, 64, 200];
    const random = new Random(11);
    const x = new Float64Array(samples * into);
    for (let s = 0; s < samples; s++) {
      const common = random.normal();
      for (let i = 0; i < into; i++) x[s * into + i] = common + 0.5 * random.normal();
    }
    const reversed = new Float32Array(into * into);
    for (let i = 0; i < into; i++) {
      for (let j = 0; j < into; j++) {
        let sum = i === j ? 0.01 * samples : 0;
        for (let s = 0; s < samples; s++) sum += x[s * into + i]! * x[s * into + j]!;
        reversed[(into - 1 - i) * into + (into - 1 - j)] = sum / samples;
      }
    }
    using bench = new Bench();
    const h = bench.f32(reversed);
    const inverse = bench.room(into * into);
    bench.context.cholesky({ a: h, failedPivot: bench.i32([0]), n: into });
    bench.context.triangularInverse({ l: h, y: inverse, n: into });
    const factor = bench.read(inverse, into * into).reverse();
    const w = random.normals(out * into);
    const shape = { out, into, group: 32, bits: 2, w } as const;
    const diagonal = new Float32Array(into * into);
    for (let i = 0; i < into; i++) diagonal[i * into + i] = 1;
    const loss = (y: ArrayLike<number>): number => {
      let sum = 0;
      for (let r = 0; r < out; r++) {
        for (let s = 0; s < samples; s++) {
          let dot = 0;
          for (let i = 0; i < into; i++) dot += x[s * into + i]! * (y[r * into + i]! - w[r * into + i]!);
          sum += dot * dot;
        }
      }
      return sum;
    };
    const optq = { ...shape, factor };
    const plain = { ...shape, factor: diagonal };
    const after = loss(split(outputs(bench, optq), optq).w);
    const before = loss(split(outputs(bench, plain), plain).w);
    assert(after < 0.5 * before, `${after}, expected less than half of ${before}`);
  });

  it("refuses what does not fit and names it", () => {
    using bench = new Bench();
    const p = problem(4, 64, 32, 2);
    const places = run(bench, p);
    const good = { ...places, inverseFactor: bench.f32(p.factor), outFeatures: 4, inFeatures: 64, group: 32, bits: 2 };
    const message = (changes: Partial<typeof good>): string =>
      assertThrows(() => bench.context.gptqQuantize({ ...good, ...changes }), ApiqError).message;
    assertStringIncludes(message({ outFeatures: 0 }), "out_features: received 0");
    assertStringIncludes(message({ bits: 5 }), "bits: received 5");
    assertStringIncludes(message({ group: 12 }), "group: received 12");
    assertStringIncludes(message({ group: 48 }), "group: received 48");
    assertStringIncludes(message({ outFeatures: 5 }), "w");
    assertStringIncludes(message({ scale: good.w }), "w and scale: the tensors overlap");
    assertStringIncludes(message({ q: good.inverseFactor }), "inverse_factor and q: the tensors overlap");
  });

  it("names a diagonal element that no inverse has", () => {
    using bench = new Bench();
    const p = problem(4, 64, 32, 2);
    p.factor[9 * 64 + 9] = 0;
    const { w } = run(bench, p);
    const error = assertThrows(() => bench.read(w, 1), ApiqError);
    assertEquals(error.status, "OUT_OF_RANGE");
    assertStringIncludes(error.message, "diagonal element 9");
  });
});
