/** One buffer for all packed matrices of a model: on huge pages, in the order in which a step reads them. */
import type { Context, DeviceBuffer, Weight, WeightShape } from "../../ffi/mod.ts";

/** Every matrix starts on a page of its own, so that releasing or prefetching one touches no other. */
const ALIGNMENT = 4096;

/** What a matrix takes of the arena. */
export function placedBytes(context: Context, shape: WeightShape): number {
  return Math.ceil(context.packedBytes(shape) / ALIGNMENT) * ALIGNMENT;
}

export class PackedArena implements Disposable {
  readonly #context: Context;
  readonly #buffer: DeviceBuffer | null;
  #used = 0;
  /** Bytes of the matrices placed so far, without the padding between them. */
  bytes = 0;

  /** @param shapes all matrices that will be placed */
  constructor(context: Context, shapes: readonly WeightShape[]) {
    this.#context = context;
    const total = shapes.reduce((sum, shape) => sum + placedBytes(context, shape), 0);
    this.#buffer = total > 0 ? context.alloc(total) : null;
  }

  /** The next place; its contents are undefined until weightRepack writes them. */
  place(shape: WeightShape): Weight {
    if (!this.#buffer) throw new Error("Cannot place a matrix: the arena was made for none");
    const data = this.#buffer.at(this.#used);
    this.#used += placedBytes(this.#context, shape);
    this.bytes += this.#context.packedBytes(shape);
    return { ...shape, data };
  }

  [Symbol.dispose](): void {
    this.#buffer?.[Symbol.dispose]();
  }
}
