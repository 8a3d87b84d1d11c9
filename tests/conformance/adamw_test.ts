import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import { assertClose, Bench, onEveryIsa, Random } from "./harness.ts";

interface Settings {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  gradScale: number;
}

/** AdamW in float64. */
class Reference {
  readonly m: Float64Array;
  readonly v: Float64Array;
  #steps = 0;

  constructor(
    readonly parameter: Float64Array,
    readonly settings: Settings,
  ) {
    this.m = new Float64Array(parameter.length);
    this.v = new Float64Array(parameter.length);
  }

  step(grad: Float32Array): void {
    const { lr, beta1, beta2, eps, weightDecay, gradScale } = this.settings;
    this.#steps++;
    for (let i = 0; i < grad.length; i++) {
      const g = grad[i]! * gradScale;
      this.m[i] = beta1 * this.m[i]! + (1 - beta1) * g;
      this.v[i] = beta2 * this.v[i]! + (1 - beta2) * g * g;
      const mean = this.m[i]! / (1 - beta1 ** this.#steps);
      const deviation = Math.sqrt(this.v[i]! / (1 - beta2 ** this.#steps));
      this.parameter[i] = this.parameter[i]! * (1 - lr * weightDecay) - (lr * mean) / (deviation + eps);
    }
  }
}

const STEPS = 60;

describe("adamw", () => {
  it("follows float64 over many steps: decay, bias corrections, a scale of the gradient", () => {
    for (const [count, settings] of [
      [1, { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, gradScale: 1 }],
      [17, { lr: 5e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1, gradScale: 0.125 }],
      [16385, { lr: 0.02, beta1: 0.8, beta2: 0.95, eps: 1e-6, weightDecay: 0.5, gradScale: 3 }],
      [33, { lr: 0.1, beta1: 0, beta2: 0, eps: 1, weightDecay: 0, gradScale: 1 }],
    ] as const) {
      const random = new Random(count);
      const start = random.normals(count);
      const grads = Array.from({ length: STEPS }, () => random.normals(count, 10 ** (-4 * random.uniform())));
      const reference = new Reference(Float64Array.from(start), settings);
      for (const grad of grads) reference.step(grad);
      const all = onEveryIsa((bench) => {
        const refs = {
          parameter: bench.f32(start),
          m: bench.f32(new Float32Array(count)),
          v: bench.f32(new Float32Array(count)),
        };
        const grad = bench.room(count);
        for (const [i, values] of grads.entries()) {
          grad.buffer.upload(values, grad.offset);
          bench.context.adamw({ ...refs, grad, count, ...settings, step: i + 1 });
        }
        return Float32Array.from([refs.parameter, refs.m, refs.v].flatMap((ref) => [...bench.read(ref, count)]));
      });
      for (let i = 0; i < count; i++) {
        // A step moves a parameter by about lr, with a relative error around 1e-6, and rounds it once.
        const size = Math.max(Math.abs(start[i]!), Math.abs(reference.parameter[i]!));
        const bound = STEPS * (settings.lr * 2e-6 + size * 6e-8);
        assertClose([all[i]!], [reference.parameter[i]!], bound, `parameter ${i} of ${count}`);
        const largest = Math.max(...grads.map((grad) => Math.abs(grad[i]! * settings.gradScale)));
        assertClose([all[count + i]!], [reference.m[i]!], 1e-6 * largest, `m ${i} of ${count}`);
        assertClose([all[2 * count + i]! / reference.v[i]!], [1], 2e-6, `v ${i} of ${count}`);
      }
    }
  });

  it("takes its settings for the decimals they were written as: the first v is a thousandth of the square", () => {
    using bench = new Bench();
    const v = bench.f32([0]);
    const settings = { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, gradScale: 1 };
    const refs = { parameter: bench.f32([1]), grad: bench.f32([1]), m: bench.f32([0]), v };
    bench.context.adamw({ ...refs, count: 1, ...settings, step: 1 });
    // 1 - fround(0.999) is off by 1.3e-5.
    assertClose([bench.read(v, 1)[0]! / 0.001], [1], 1e-7, "v");
  });

  it("leaves what has no gradient to the decay alone, and lets a NaN touch nothing else", () => {
    const all = onEveryIsa((bench) => {
      const zeros = () => bench.f32([0, 0, 0]);
      const refs = { parameter: bench.f32([1, 2, 3]), grad: bench.f32([0, Number.NaN, 0]), m: zeros(), v: zeros() };
      const settings = { lr: 0.5, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.5, gradScale: 1 };
      bench.context.adamw({ ...refs, count: 3, ...settings, step: 1 });
      return bench.read(refs.parameter, 3);
    });
    assertEquals([all[0], all[2]], [0.75, 2.25]);
    assert(Number.isNaN(all[1]));
  });

  it("refuses bad arguments", () => {
    using bench = new Bench();
    const zeros = () => bench.f32(new Float32Array(64));
    const good = {
      ...{ parameter: zeros(), grad: zeros(), m: zeros(), v: zeros(), count: 64, step: 1 },
      ...{ lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.1, gradScale: 1 },
    };
    bench.context.adamw(good);
    const refused = (bad: Partial<typeof good>, status: string) => {
      assertEquals(assertThrows(() => bench.context.adamw({ ...good, ...bad }), ApiqError).status, status);
    };
    refused({ count: 0 }, "INVALID_ARGUMENT");
    refused({ count: 65 }, "OUT_OF_RANGE");
    refused({ step: 0 }, "INVALID_ARGUMENT");
    refused({ beta1: 1 }, "INVALID_ARGUMENT");
    refused({ beta2: -0.1 }, "INVALID_ARGUMENT");
    refused({ eps: -1 }, "INVALID_ARGUMENT");
    refused({ parameter: good.grad }, "INVALID_ARGUMENT");
    refused({ m: good.v }, "INVALID_ARGUMENT");
    refused({ v: good.parameter.buffer.at(4), count: 63 }, "INVALID_ARGUMENT");
  });
});
