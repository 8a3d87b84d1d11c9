/** adamw8bit against the same step in float64 between its own dequantised moments. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

const BLOCK = 256;

/** The values of the 256 codes, from the header's description. */
function values(signed: boolean): Float32Array {
  const positive: number[] = [1];
  for (let e = 0; e <= 6; e++) {
    const parts = 2 ** ((signed ? 6 : 7) - e);
    for (let i = 0; i < parts; i++) positive.push((0.1 + (0.9 * (i + 0.5)) / parts) * 10 ** -e);
  }
  const negative = signed ? positive.slice(1).map((value) => -value) : [];
  return Float32Array.from([...negative, 0, ...positive].sort((a, b) => a - b));
}

const [SIGNED, UNSIGNED] = [values(true), values(false)];

interface State {
  parameter: Float32Array;
  m: Float32Array;
  v: Float32Array;
  mCodes: Uint8Array;
  vCodes: Uint8Array;
  mScale: Float32Array;
  vScale: Float32Array;
}

const SETTINGS = { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1, gradScale: 0.5 };

/** Runs the steps and gives the state after each; moments are dequantised by the test. */
function run(bench: Bench, start: Float32Array, grads: readonly Float32Array[], settings = SETTINGS): State[] {
  const count = start.length;
  const blocks = Math.ceil(count / BLOCK);
  const zeros = (bytes: number) => bench.put(new Uint8Array(bytes));
  const parameter = bench.f32(start);
  const [m, v, mScale, vScale] = [zeros(count), zeros(count), zeros(blocks * 4), zeros(blocks * 4)];
  return grads.map((grad, i) => {
    const refs = { parameter, grad: bench.f32(grad), m, v, mScale, vScale };
    bench.context.adamw8bit({ ...refs, count, ...settings, step: i + 1 });
    const mCodes = m.buffer.download(new Uint8Array(count));
    const vCodes = v.buffer.download(new Uint8Array(count));
    const scales = [bench.read(mScale, blocks), bench.read(vScale, blocks)] as const;
    return {
      parameter: bench.read(parameter, count),
      m: Float32Array.from(mCodes, (code, at) => scales[0][Math.floor(at / BLOCK)]! * SIGNED[code]!),
      v: Float32Array.from(vCodes, (code, at) => scales[1][Math.floor(at / BLOCK)]! * UNSIGNED[code]!),
      mCodes,
      vCodes,
      mScale: scales[0],
      vScale: scales[1],
    };
  });
}

const packed = (states: readonly State[]): Float64Array =>
  Float64Array.from(states.flatMap((s) => [...s.parameter, ...s.mCodes, ...s.vCodes, ...s.mScale, ...s.vScale]));

/** Gradients of sizes that differ by decades, as in training. */
function gradients(count: number, steps: number, decades: number): Float32Array[] {
  const random = new Random(count);
  const sizes = Array.from({ length: count }, () => 10 ** (-decades * random.uniform()));
  return Array.from({ length: steps }, () => random.normals(count).map((value, i) => value * sizes[i]!));
}

describe("adamw8bit", () => {
  it("has 256 values of each kind", () => {
    assertEquals([SIGNED.length, UNSIGNED.length], [256, 256]);
    assertEquals([SIGNED[127], UNSIGNED[0], SIGNED[255], UNSIGNED[255]], [0, 0, 1, 1]);
  });

  it("does AdamW's step between moments that it rounds to the nearest value of their block", () => {
    for (const count of [1, 255, 256, 257, 16384, 16400]) {
      const start = new Random(count + 1).normals(count);
      const grads = gradients(count, 3, 5);
      let states: State[] = [];
      onEveryIsa((bench) => {
        states = run(bench, start, grads);
        return packed(states);
      });
      const { lr, beta1, beta2, eps, weightDecay, gradScale } = SETTINGS;
      for (const [i, state] of states.entries()) {
        const before = states[i - 1];
        const [m, v] = [new Float64Array(count), new Float64Array(count)];
        for (let j = 0; j < count; j++) {
          const g = grads[i]![j]! * gradScale;
          m[j] = beta1 * (before?.m[j] ?? 0) + (1 - beta1) * g;
          v[j] = beta2 * (before?.v[j] ?? 0) + (1 - beta2) * g * g;
          const mean = m[j]! / (1 - beta1 ** (i + 1));
          const deviation = Math.sqrt(v[j]! / (1 - beta2 ** (i + 1)));
          const old = before?.parameter[j] ?? start[j]!;
          const expected = old * (1 - lr * weightDecay) - (lr * mean) / (deviation + eps);
          const bound = 3e-6 * (lr + Math.abs(expected));
          assertClose([state.parameter[j]!], [expected], bound, `parameter ${j} of ${count}`);
        }
        for (let first = 0; first < count; first += BLOCK) {
          const end = Math.min(first + BLOCK, count);
          const block = first / BLOCK;
          const largest = (x: Float64Array) => x.subarray(first, end).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
          assertClose([state.mScale[block]! / largest(m)], [1], 1e-6, "scale of m");
          assertClose([state.vScale[block]! / largest(v)], [1], 1e-6, "scale of v");
          for (let j = first; j < end; j += count > 1000 ? 31 : 1) {
            for (const [moment, scale, code, of] of [
              [m[j]!, state.mScale[block]!, state.mCodes[j]!, SIGNED],
              [v[j]!, state.vScale[block]!, state.vCodes[j]!, UNSIGNED],
            ] as const) {
              const x = moment / scale;
              const nearest = of.reduce((best, value) => Math.min(best, Math.abs(value - x)), 2);
              const atLeast = of === UNSIGNED && x > 0 ? UNSIGNED[1]! : Number.NEGATIVE_INFINITY;
              const raised = of[code] === atLeast && x < atLeast;
              const error = Math.abs(of[code]! - x) - nearest;
              assert(of[code]! >= atLeast && (raised || error < 2e-6), `${x} became ${of[code]}, element ${j}`);
            }
          }
        }
      }
    }
  });

  /** How far 8 bits end from float32 moments and how far those moved, per element. */
  function compare(decades: number): { apart: Float32Array; moved: Float32Array; moved8: Float32Array } {
    using bench = new Bench();
    const count = 1024;
    const start = new Float32Array(count);
    const grads = gradients(count, 100, decades);
    const settings = { ...SETTINGS, weightDecay: 0 };
    const state = run(bench, start, grads, settings).at(-1) as State;
    const [parameter, m, v] = [bench.f32(start), bench.f32(start), bench.f32(start)];
    for (const [i, grad] of grads.entries()) {
      bench.context.adamw({ parameter, m, v, grad: bench.f32(grad), count, ...settings, step: i + 1 });
    }
    const moved = bench.read(parameter, count);
    return { apart: state.parameter.map((value, i) => value - moved[i]!), moved, moved8: state.parameter };
  }
  const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / x.length);

  it("follows AdamW with float32 moments where gradients of a block are within two decades", () => {
    const { apart, moved } = compare(2);
    assert(rms(apart) < 0.1 * rms(moved), `${rms(apart)} apart after moving ${rms(moved)}`);
  });

  it("takes smaller steps, never larger ones, where a gradient is far below its block's largest", () => {
    const { moved, moved8 } = compare(7);
    assert(rms(moved8) < rms(moved), `moved ${rms(moved8)}, with float32 moments ${rms(moved)}`);
    const most = (x: Float32Array) => x.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    assert(most(moved8) < 1.1 * most(moved), `moved by up to ${most(moved8)}, with float32 moments ${most(moved)}`);
  });

  it("keeps moments of nothing at nothing, and shows a NaN in the block that has one", () => {
    using bench = new Bench();
    const grad = new Float32Array(600).with(300, Number.NaN);
    const [first, second] = run(bench, new Float32Array(600).fill(1), [grad, new Float32Array(600)], {
      ...SETTINGS,
      weightDecay: 0,
    });
    for (const [i, value] of first!.parameter.entries()) {
      assertEquals(Number.isNaN(value), i === 300);
      assertEquals(Number.isNaN(first!.m[i]!), i >= 256 && i < 512);
    }
    assertEquals(second!.parameter.filter(Number.isNaN).length, 256);
    assertEquals([first!.mScale[0], first!.vScale[2]], [0, 0]);
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const bytes = (count: number) => bench.put(new Uint8Array(count));
    const good = {
      ...{
        parameter: bytes(2400),
        grad: bytes(2400),
        m: bytes(600),
        v: bytes(600),
        mScale: bytes(12),
        vScale: bytes(12),
      },
      ...{ count: 600, step: 1, ...SETTINGS },
    };
    bench.context.adamw8bit(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.adamw8bit({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 601 }, "OUT_OF_RANGE");
    refused({ mScale: bytes(8) }, "OUT_OF_RANGE");
    refused({ step: 0 }, "INVALID_ARGUMENT");
    refused({ beta1: 1 }, "INVALID_ARGUMENT");
    refused({ eps: -1 }, "INVALID_ARGUMENT");
    refused({ m: good.v }, "INVALID_ARGUMENT");
    refused({ vScale: good.mScale }, "INVALID_ARGUMENT");
    refused({ parameter: good.grad }, "INVALID_ARGUMENT");
  });
});
