import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";
import { centralDifference, levelOf, type Quantizer, rounded, surrogate, zeroPoint } from "./quantizer_reference.ts";

/** out_features, in_features, group: one group, ragged vectors, a group a row, several items. */
const SHAPES = [
  [1, 8, 8],
  [3, 24, 24],
  [7, 40, 8],
  [5, 144, 72],
  [9, 1024, 1024],
  [300, 576, 64],
] as const;

interface Problem {
  w: Float32Array;
  scale: Float32Array;
  zero: Float32Array;
  dy: Float32Array;
  sizes: { outFeatures: number; inFeatures: number; group: number; bits: number; clampZero: number };
  groups: number;
  quantizer(group: number): Quantizer;
}

/** Weights that reach past both ends of the range, and zeros that are not whole; without clampZero some lie outside the range. */
function problem(
  [outFeatures, inFeatures, group]: readonly [number, number, number],
  bits: number,
  clampZero: number,
): Problem {
  const random = new Random(outFeatures * 31 + bits * 7 + clampZero);
  const groups = (outFeatures * inFeatures) / group;
  const top = 2 ** bits - 1;
  const w = random.normals(outFeatures * inFeatures, 0.02);
  const scale = Float32Array.from({ length: groups }, () => (0.02 * (0.5 + 3 * random.uniform())) / top);
  const zero = Float32Array.from({ length: groups }, () => top * (1.5 * random.uniform() - 0.25));
  const dy = random.normals(w.length);
  const sizes = { outFeatures, inFeatures, group, bits, clampZero };
  const quantizer = (g: number) => ({ scale: scale[g]!, zero: zero[g]!, top, clampZero: clampZero === 1 });
  return { w, scale, zero, dy, sizes, groups, quantizer };
}

const upload = (bench: Bench, { w, scale, zero }: Problem) => ({
  w: bench.f32(w),
  scale: bench.f32(scale),
  zero: bench.f32(zero),
});

/** The values of all refs after one another. */
function readAll(bench: Bench, ...parts: [ReturnType<Bench["room"]>, number][]): Float32Array {
  return Float32Array.from(parts.flatMap(([ref, count]) => [...bench.read(ref, count)]));
}

describe("fakeQuantize", () => {
  it("equals the formula exactly, for every width, and its levels fit the bits", () => {
    for (const shape of SHAPES) {
      for (const [bits, clampZero] of [
        [2, 0],
        [3, 1],
        [4, 0],
        [8, 1],
      ] as const) {
        const given = problem(shape, bits, clampZero);
        const count = given.w.length;
        const bytes = onEveryIsa((bench) => {
          const [y, q] = [bench.room(count), bench.put(new Uint8Array(count + 1).fill(0x7b))];
          bench.context.fakeQuantize({ ...upload(bench, given), y, q, ...given.sizes });
          const result = new Uint8Array(5 * count + 1);
          y.buffer.download(result.subarray(0, 4 * count), 0);
          q.buffer.download(result.subarray(4 * count), 0);
          return result;
        });
        assertEquals(bytes[5 * count], 0x7b); // nothing past the end
        const y = new Float32Array(bytes.buffer, 0, count);
        for (let i = 0; i < count; i++) {
          const quantizer = given.quantizer(Math.floor(i / shape[2]));
          const level = levelOf(given.w[i]!, quantizer);
          const expected = Math.fround(quantizer.scale * (level - zeroPoint(quantizer)));
          assert(
            bytes[4 * count + i] === level,
            `${shape}, ${bits} bits: level ${i} is ${bytes[4 * count + i]}, expected ${level}`,
          );
          assert(y[i] === expected, `${shape}, ${bits} bits: value ${i} is ${y[i]}, expected ${expected}`);
        }
      }
    }
  });

  it("rounds ties to even and works in place, with or without levels", () => {
    const w = [-0.5, 0.5, 1.5, 2.5, -1.5, 3.5, 100, -100];
    const y = onEveryIsa((bench) => {
      const [ref, scale, zero] = [bench.f32(w), bench.f32([1]), bench.f32([2.5])];
      const sizes = { outFeatures: 1, inFeatures: 8, group: 8, bits: 3, clampZero: 0 };
      const q = bench.put(new Uint8Array(8));
      bench.context.fakeQuantize({ w: ref, scale, zero, y: null, q, ...sizes });
      bench.context.fakeQuantize({ w: ref, scale, zero, y: ref, q: null, ...sizes });
      return Float32Array.from([...bench.read(ref, 8), ...q.buffer.download(new Uint8Array(8), 0)]);
    });
    assertEquals([...y.slice(0, 8)], [0, 0, 2, 2, -2, 4, 5, -2]);
    assertEquals([...y.slice(8)], [2, 2, 4, 4, 0, 6, 7, 0]);
  });

  it("keeps a NaN a NaN, and gives levels in range for anything", () => {
    const w = [Number.NaN, Infinity, -Infinity, 1e38, -1e38, 1e-45, 0, -0, 1, 1, 1, 1, 1, 1, 1, Number.NaN];
    for (const [scale, zero] of [
      [1, 1],
      [1e-5, 2],
      [Number.NaN, 1],
      [1, Number.NaN],
      [0, 1e30],
      [-1, -Infinity],
    ] as const) {
      const result = onEveryIsa((bench) => {
        const [y, q] = [bench.room(16), bench.put(new Uint8Array(16))];
        const sizes = { outFeatures: 1, inFeatures: 16, group: 16, bits: 2, clampZero: 0 };
        bench.context.fakeQuantize({
          w: bench.f32(w),
          scale: bench.f32([scale]),
          zero: bench.f32([zero]),
          y,
          q,
          ...sizes,
        });
        const missing = Uint8Array.from(bench.read(y, 16), (value) => (Number.isNaN(value) ? 1 : 0));
        return Uint8Array.from([...missing, ...q.buffer.download(new Uint8Array(16), 0)]);
      });
      assert(result[0] === 1 && result[15] === 1, `scale ${scale}, zero ${zero}: a NaN is lost`);
      assert(
        result.slice(16).every((level) => level <= 3),
        `scale ${scale}, zero ${zero}: ${result.slice(16)}`,
      );
      if (scale === 1 && zero === 1)
        assertEquals([...result.slice(16)], [0, 3, 0, 3, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0]);
    }
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      w: bench.f32(new Float32Array(64)),
      scale: bench.f32(new Float32Array(8)),
      zero: bench.f32(new Float32Array(8)),
      y: bench.room(64) as ReturnType<Bench["room"]> | null,
      q: bench.put(new Uint8Array(64)) as ReturnType<Bench["room"]> | null,
      outFeatures: 4,
      inFeatures: 16,
      group: 8,
      bits: 4,
      clampZero: 0,
    };
    bench.context.fakeQuantize(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      const error = assertThrows(() => bench.context.fakeQuantize({ ...good, ...bad }), ApiqError);
      assertEquals(error.status, status, error.message);
    };
    refused({ group: 0 }, "INVALID_ARGUMENT");
    refused({ group: 4 }, "INVALID_ARGUMENT");
    refused({ group: 24 }, "INVALID_ARGUMENT");
    refused({ bits: 0 }, "INVALID_ARGUMENT");
    refused({ bits: 9 }, "INVALID_ARGUMENT");
    refused({ clampZero: 2 }, "INVALID_ARGUMENT");
    refused({ y: null, q: null }, "INVALID_ARGUMENT");
    refused({ y: good.scale, outFeatures: 1, inFeatures: 8 }, "INVALID_ARGUMENT");
    refused({ q: good.w }, "INVALID_ARGUMENT");
    refused({ y: good.w.buffer.at(4), outFeatures: 1 }, "INVALID_ARGUMENT");
    refused({ outFeatures: 5 }, "OUT_OF_RANGE");
    refused({ outFeatures: 2 ** 32 - 1, inFeatures: 2 ** 32 - 8 }, "INVALID_ARGUMENT");
    refused({ scale: good.scale.buffer.at(16) }, "OUT_OF_RANGE");
  });
});

describe("fakeQuantizeBackward", () => {
  for (const edgesInside of [0, 1]) {
    it(`equals differences of the surrogate, edges ${edgesInside ? "inside" : "outside"}`, () => {
      for (const shape of SHAPES) {
        for (const [bits, clampZero] of [
          [2, 0],
          [2, 1],
          [4, 1],
          [8, 0],
        ] as const) {
          checkGradients(problem(shape, bits, clampZero), edgesInside);
        }
      }
    });
  }

  it("writes dw over dy, and leaves out what is absent", () => {
    const given = problem([5, 144, 72], 2, 1);
    const { length } = given.dy;
    const all = onEveryIsa((bench) => {
      const inputs = upload(bench, given);
      const [dy, dw, dzero] = [bench.f32(given.dy), bench.room(length), bench.room(given.groups)];
      const [first, second] = [bench.room(given.groups), bench.room(given.groups)];
      const options = { ...inputs, ...given.sizes, edgesInside: 1 };
      bench.context.fakeQuantizeBackward({ ...options, dy, dw, dscale: first, dzero });
      bench.context.fakeQuantizeBackward({ ...options, dy, dw: dy, dscale: second, dzero: null });
      return readAll(bench, [dw, length], [first, given.groups], [dy, length], [second, given.groups]);
    });
    assertEquals(all.slice(all.length / 2), all.slice(0, all.length / 2));
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const good = {
      w: bench.f32(new Float32Array(64)),
      scale: bench.f32(new Float32Array(8).fill(1)),
      zero: bench.f32(new Float32Array(8)),
      dy: bench.f32(new Float32Array(64)),
      dw: bench.room(64) as ReturnType<Bench["room"]> | null,
      dscale: bench.room(8),
      dzero: bench.room(8) as ReturnType<Bench["room"]> | null,
      outFeatures: 4,
      inFeatures: 16,
      group: 8,
      bits: 4,
      clampZero: 0,
      edgesInside: 0,
    };
    bench.context.fakeQuantizeBackward(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      const error = assertThrows(() => bench.context.fakeQuantizeBackward({ ...good, ...bad }), ApiqError);
      assertEquals(error.status, status, error.message);
    };
    refused({ edgesInside: 2 }, "INVALID_ARGUMENT");
    refused({ group: 12 }, "INVALID_ARGUMENT");
    refused({ dw: good.w }, "INVALID_ARGUMENT");
    refused({ dscale: good.scale }, "INVALID_ARGUMENT");
    refused({ dzero: good.dscale }, "INVALID_ARGUMENT");
    refused({ dscale: good.dy }, "INVALID_ARGUMENT");
    refused({ dw: good.dy.buffer.at(4), outFeatures: 3 }, "INVALID_ARGUMENT");
    refused({ dzero: bench.room(7) }, "OUT_OF_RANGE");
    refused({ outFeatures: 5 }, "OUT_OF_RANGE");
  });
});

function checkGradients(given: Problem, edgesInside: number): void {
  const { w, dy, groups } = given;
  const { group, bits, clampZero } = given.sizes;
  const what = `${given.sizes.outFeatures} x ${given.sizes.inFeatures} / ${group}, ${bits} bits, clampZero ${clampZero}`;
  const all = onEveryIsa((bench) => {
    const [dw, dscale, dzero] = [bench.room(w.length), bench.room(groups), bench.room(groups)];
    const outputs = { dy: bench.f32(dy), dw, dscale, dzero };
    bench.context.fakeQuantizeBackward({ ...upload(bench, given), ...outputs, ...given.sizes, edgesInside });
    return readAll(bench, [dw, w.length], [dscale, groups], [dzero, groups]);
  });
  // Every group of a small matrix, some of a large one.
  for (let g = 0; g < groups; g += groups > 200 ? 29 : 1) {
    const quantizer = given.quantizer(g);
    const columns = Array.from({ length: group }, (_, i) => g * group + i);
    const frozenZero = zeroPoint({ ...quantizer, clampZero: false }) - quantizer.zero;
    const frozen = columns.map((i) => {
      const ratio = rounded(w[i]!, quantizer.scale) - w[i]! / quantizer.scale;
      return { ratio, zero: frozenZero, edgesInside: edgesInside === 1 };
    });
    const loss = (changed: Quantizer) =>
      columns.reduce((sum, i, at) => sum + dy[i]! * surrogate(w[i]!, changed, frozen[at]!), 0);
    const step = quantizer.scale * 1e-6;
    const dscale = centralDifference((scale) => loss({ ...quantizer, scale }), quantizer.scale, step);
    const dzero = centralDifference((zero) => loss({ ...quantizer, zero }), quantizer.zero, 1e-6);
    // A float32 sum of the group's terms, of which each may be rounded: a few units of the sum of their sizes.
    const size = columns.reduce(
      (sum, i) => sum + Math.abs(dy[i]!) * (quantizer.top + Math.abs(w[i]! / quantizer.scale)),
      0,
    );
    assertClose([all[w.length + g]!], [dscale], 5e-7 * size, `${what}: dscale ${g}`);
    assertClose([all[w.length + groups + g]!], [dzero], 5e-7 * size * quantizer.scale, `${what}: dzero ${g}`);
    columns.forEach((i, at) => {
      const slope = centralDifference((value) => surrogate(value, quantizer, frozen[at]!), w[i]!, step);
      assertClose([all[i]!], [Math.round(slope) * dy[i]!], 0, `${what}: dw ${i}`);
    });
  }
}
