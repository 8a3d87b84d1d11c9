/** LoRA and DoRA that take part in training without being trained. */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import { type AdapterSource, readTensor } from "../formats/mod.ts";
import type { Linear } from "../models/weights.ts";
import type { TrainableLora } from "../ops/training.ts";

export class FrozenLora implements Disposable {
  readonly #context: Context;
  readonly #owned: DeviceBuffer[] = [];
  readonly linears: ReadonlyMap<Linear, TrainableLora>;

  /** @param adapter of which the parts are taken that belong to `linears` */
  constructor(context: Context, adapter: AdapterSource, linears: readonly Linear[]) {
    this.#context = context;
    const loras = new Map<Linear, TrainableLora>();
    for (const linear of linears) {
      const target = adapter.targets.get(linear.name);
      if (!target) continue;
      const { rank, scale, magnitude } = target;
      loras.set(linear, {
        a: this.#put(readTensor(target.a)),
        b: this.#put(readTensor(target.b)),
        da: null,
        db: null,
        rank,
        scale,
        dora: magnitude && { magnitude: this.#put(readTensor(magnitude)), dmagnitude: null },
      });
    }
    this.linears = loras;
  }

  #put(values: Float32Array): Ref {
    const buffer = this.#context.alloc(values.byteLength);
    this.#owned.push(buffer);
    buffer.upload(values);
    return buffer.at(0);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#owned.splice(0)) buffer[Symbol.dispose]();
  }
}
