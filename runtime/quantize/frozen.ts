/** Stored linears as the training ops run them: what a block computes after it, or a part of it, was quantized. */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import type { TrainableLinear } from "../ops/training.ts";
import { asStored } from "./block_forward.ts";
import { dequantizeStored } from "./dequantize.ts";
import type { QuantizedLinear } from "./method.ts";

export class FrozenLinears implements Disposable {
  readonly #context: Context;
  readonly #owned: Disposable[] = [];
  readonly #linears = new Map<Linear, TrainableLinear>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** For TrainingOps; grows with `add`. */
  get trainable(): ReadonlyMap<Linear, TrainableLinear> {
    return this.#linears;
  }

  /** From now on `linear` computes as it will when it is stored. */
  add(linear: Linear, quantized: QuantizedLinear): void {
    const { weights, lora } = asStored(quantized);
    const { outFeatures, inFeatures } = linear.weight;
    this.#linears.set(linear, {
      weight: this.#put(dequantizeStored(weights, outFeatures, inFeatures)),
      dweight: null,
      lora: lora && {
        a: this.#put(lora.a),
        b: this.#put(lora.b),
        da: null,
        db: null,
        rank: lora.rank,
        scale: lora.alpha / lora.rank,
        dora: lora.magnitude && { magnitude: this.#put(lora.magnitude), dmagnitude: null },
      },
    });
  }

  #put(values: Float32Array): Ref {
    const buffer = this.#context.alloc(values.byteLength);
    this.#owned.push(buffer);
    buffer.upload(values);
    return buffer.at(0);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0)) owned[Symbol.dispose]();
  }
}
