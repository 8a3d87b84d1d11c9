/**
 * Where adapters live on the device: one pool of matrices and, for each linear, a table of slots that point into it. Ops read the
 * tables when they run, so loading an adapter changes no recorded graph. How large pool and tables are is fixed when they are made.
 */
import { type Context, type DeviceBuffer, encodeArray, F16, F32, type Ref, structBytes } from "../../ffi/mod.ts";
import type { ImageTarget, LoraDtype } from "./lora_image.ts";
import { LoraSpace } from "./lora_space.ts";
import { blockLinears, type DecoderWeights, type Linear } from "./weights.ts";

const SLOT_BYTES = structBytes("apiq_lora_slot");
/** What a slot says of linears that its adapter does not target. */
const EMPTY = { aOffset: 0, bOffset: 0, rank: 0, dtype: F32, scale: 0, factors: 0 };

/** The slot of the model's own calibrated LoRA. Requests' adapters follow it. */
export const CALIBRATED_SLOT = 0;

export interface LoraTableOptions {
  /** Adapters that can be there at a time, the calibrated LoRA's slot included, be there one or not. */
  slots: number;
  poolBytes: number;
  /** So many at its beginning get their memory now, on huge pages where the system has them; others when they are first written. */
  readyBytes: number;
  /** No adapter's rank exceeds it. */
  maxRank: number;
  /** How matrices are held: float16 halves their bytes, float32 keeps them exact. */
  dtype: LoraDtype;
}

export class LoraTable implements Disposable {
  readonly #pool: DeviceBuffer;
  readonly #tables: DeviceBuffer;
  readonly #linears: ReadonlyMap<string, Linear>;
  /** By slot: whether it is in use, and whether its adapter takes the calibrated LoRA's place. */
  readonly #used: ("stacks" | "replaces" | undefined)[];
  readonly slots: number;
  readonly maxRank: number;
  readonly dtype: LoraDtype;
  /** The pool's bytes: who loads an adapter takes a piece, and gives it back. */
  readonly space: LoraSpace;

  constructor(context: Context, weights: DecoderWeights, options: LoraTableOptions) {
    const linears = weights.blocks.flatMap(blockLinears);
    this.#linears = new Map(linears.map((linear) => [linear.name, linear]));
    this.slots = options.slots;
    this.maxRank = Math.max(1, options.maxRank);
    this.dtype = options.dtype;
    this.space = new LoraSpace(Math.max(64, options.poolBytes));
    this.#used = new Array(options.slots).fill(undefined);
    this.#pool = context.alloc(this.space.total);
    makeReady(this.#pool, Math.min(options.readyBytes, this.space.total));
    this.#tables = context.alloc(linears.length * this.slots * SLOT_BYTES);
  }

  get pool(): Ref {
    return this.#pool.at(0);
  }

  get poolBytes(): number {
    return this.#pool.bytes;
  }

  linear(module: string): Linear {
    const linear = this.#linears.get(module);
    if (!linear) throw new Error(`Cannot use module ${module}: this model does not have it`);
    return linear;
  }

  /** The calibrated LoRA's slot for rows with an adapter's slot, or with -1 for none: -1 where it has no part in them. */
  calibratedSlot(adapterSlot: number): number {
    const replaced = this.#used[adapterSlot] === "replaces";
    return this.#used[CALIBRATED_SLOT] === undefined || replaced ? -1 : CALIBRATED_SLOT;
  }

  slotTable(target: number): Ref {
    return this.#tables.at(target * this.slots * SLOT_BYTES);
  }

  /** A slot for a request's adapter that nothing uses; undefined when there is none. */
  freeSlot(): number | undefined {
    const slot = this.#used.indexOf(undefined, CALIBRATED_SLOT + 1);
    return slot < 0 ? undefined : slot;
  }

  /** Takes a slot, which stays empty until `point` fills it. */
  occupy(slot: number, replaces: boolean): void {
    this.#used[slot] = replaces ? "replaces" : "stacks";
  }

  write(bytes: ArrayBufferView, offset: number): void {
    this.#pool.upload(bytes, offset);
  }

  /** Lets a slot show an adapter whose image lies at `base` of the pool. */
  point(slot: number, base: number, targets: readonly ImageTarget[]): void {
    const dtype = this.dtype === "f16" ? F16 : F32;
    for (const { module, aOffset, bOffset, rank, scale, factorsOffset } of targets) {
      const factors = factorsOffset === undefined ? 0 : 1;
      this.#setEntry(slot, this.linear(module), {
        ...{ aOffset: base + aOffset, bOffset: base + bOffset },
        ...{ rank, dtype, scale, factors },
      });
    }
  }

  /** Empties a slot that no row names any more. */
  clear(slot: number, targets: readonly ImageTarget[]): void {
    for (const { module } of targets) this.#setEntry(slot, this.linear(module), EMPTY);
    this.#used[slot] = undefined;
  }

  #setEntry(slot: number, { loraTarget }: Linear, entry: typeof EMPTY): void {
    this.#tables.upload(encodeArray("apiq_lora_slot", [entry]), (loraTarget * this.slots + slot) * SLOT_BYTES);
  }

  [Symbol.dispose](): void {
    this.#tables[Symbol.dispose]();
    this.#pool[Symbol.dispose]();
  }
}

/** Writes zeros in pieces large enough for huge pages: the first write to a page takes much longer than all later ones. */
function makeReady(pool: DeviceBuffer, bytes: number): void {
  const zeros = new Uint8Array(Math.min(bytes, 16 << 20));
  for (let at = 0; at < bytes; at += zeros.length) pool.upload(zeros.subarray(0, bytes - at), at);
}
