/**
 * Dropout of what LoRA sees of a linear's input, as peft has it: y = x W^T + scale (dropout(x) A^T) B^T. Under DoRA it is the same,
 * where peft drops out a part of x W^T as well. Masks come from a counter-based generator and are made again in the backward pass;
 * see apiq_dropout.
 */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";

export interface DropoutSettings {
  /** Of an element to become 0; at least 0, less than 1. */
  readonly probability: number;
  readonly seed: number | bigint;
}

/** Streams that a draw has: more than a model has linears. */
const STREAMS_PER_DRAW = 2 ** 16;

export class LoraDropout {
  readonly #settings: DropoutSettings;
  readonly #places: ReadonlyMap<Linear, number>;
  /** Which masks the passes that follow take: a number of the caller's, one for each batch of a run; null: none. */
  draw: number | null = null;

  /** @param linears in an order of the model's, which masks depend on */
  constructor(settings: DropoutSettings, linears: readonly Linear[]) {
    const { probability } = settings;
    if (!(probability >= 0 && probability < 1)) {
      throw new Error(`Cannot drop out: probability: received ${probability}, expected at least 0, less than 1`);
    }
    this.#settings = settings;
    this.#places = new Map(linears.map((linear, place) => [linear, place]));
  }

  get active(): boolean {
    return this.draw !== null && this.#settings.probability > 0;
  }

  /** y = dropout(x) of `count` elements with the linear's mask, or y += with `add`. Its own transpose: also the backward pass. */
  apply(context: Context, linear: Linear, x: Ref, y: Ref, count: number, add = false): void {
    const place = this.#places.get(linear);
    if (place === undefined || this.draw === null) throw new Error(`Cannot drop out the input of ${linear.name}`);
    const stream = this.draw * STREAMS_PER_DRAW + place;
    context.dropout({ x, y, count, ...this.#settings, stream, accumulate: add ? 1 : 0 });
  }
}
