/** Tensors of the runtime: a shape over a place in a device buffer. */
import type { DeviceBuffer, Ref } from "../ffi/mod.ts";

/** Element types of activations, token ids and small parameters. Weights have their own description. */
export type TensorDtype = "f32" | "i32";

/** A dense row-major tensor in a device buffer. */
export interface Tensor {
  readonly ref: Ref;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
}

export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Where ops put their results: a stack of 64-byte aligned places in one buffer, taken by `take` and given back by `reset`. */
export class Arena {
  readonly #buffer: DeviceBuffer;
  #used = 0;
  #peak = 0;

  constructor(buffer: DeviceBuffer) {
    this.#buffer = buffer;
  }

  /** A new float32 tensor, contents undefined. Throws when the arena is full: its size is planned, so that is a bug. */
  take(shape: readonly number[]): Tensor {
    const bytes = Math.ceil((elements(shape) * 4) / 64) * 64;
    if (this.#used + bytes > this.#buffer.bytes) {
      throw new Error(
        `Cannot place a tensor [${shape}]: the arena has ${this.#buffer.bytes - this.#used} of ${this.#buffer.bytes} bytes left`,
      );
    }
    const ref = this.#buffer.at(this.#used);
    this.#used += bytes;
    this.#peak = Math.max(this.#peak, this.#used);
    return { ref, dtype: "f32", shape };
  }

  /** A position to return to with `reset`. */
  mark(): number {
    return this.#used;
  }

  reset(mark: number): void {
    this.#used = mark;
  }

  /** The most bytes ever in use. */
  get peak(): number {
    return this.#peak;
  }
}
