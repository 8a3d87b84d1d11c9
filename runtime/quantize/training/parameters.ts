/**
 * Trained tensors that share a learning rate: one flat buffer each for values, gradients and AdamW's moments, so a step is one
 * op.
 */
import type { Context, DeviceBuffer, Ref } from "../../../ffi/mod.ts";

/** Slices start on 64 bytes. What lies between them stays zero: its gradient is. */
const ALIGNMENT = 16;

const padded = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/** AdamW's settings that groups do not share. */
export interface GroupSettings {
  readonly learningRate: number;
  readonly weightDecay: number;
}

/** Bytes of a group whose tensors have these numbers of elements. */
export function parameterBytes(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + padded(size), 0) * 4 * 4;
}

export class ParameterGroup implements Disposable {
  readonly #context: Context;
  readonly #settings: GroupSettings;
  readonly #count: number;
  /** values, gradients, m, v: `count` elements each */
  readonly #buffer: DeviceBuffer;
  #used = 0;
  #step = 0;

  /** @param sizes elements of the tensors that `place` will be asked for, in order */
  constructor(context: Context, sizes: readonly number[], settings: GroupSettings) {
    this.#context = context;
    this.#settings = settings;
    this.#buffer = context.alloc(parameterBytes(sizes));
    this.#count = this.#buffer.bytes / 16;
  }

  /** The next tensor, with its first values. */
  place(values: Float32Array): { value: Ref; gradient: Ref } {
    const value = this.#buffer.at(this.#used * 4);
    const gradient = this.#buffer.at((this.#count + this.#used) * 4);
    this.#buffer.upload(values, value.offset);
    this.#used += padded(values.length);
    return { value, gradient };
  }

  /** Adds the squares of all gradients to the float64 at `sum`. */
  addSquares(sum: Ref): void {
    this.#context.sumSquares({ x: this.#buffer.at(this.#count * 4), sum, count: this.#count });
  }

  /**
   * One step of AdamW (arXiv 1711.05101) over all tensors.
   * @param factor of the learning rate
   * @param gradScale of the gradients
   */
  step(factor = 1, gradScale = 1): void {
    const at = (part: number): Ref => this.#buffer.at(part * this.#count * 4);
    this.#context.adamw({
      parameter: at(0),
      grad: at(1),
      m: at(2),
      v: at(3),
      count: this.#count,
      lr: this.#settings.learningRate * factor,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: this.#settings.weightDecay,
      gradScale,
      step: ++this.#step,
    });
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}
