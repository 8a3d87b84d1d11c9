/**
 * Where adapters live on the device: one pool of matrices and, for each linear, a table of slots that point into it. Ops read the
 * tables when they run, so loading an adapter changes no recorded graph.
 */
import { type Context, type DeviceBuffer, encodeArray, F16, F32, type Ref, structBytes } from "../../ffi/mod.ts";
import { floatsToHalves } from "../formats/floats.ts";
import { type AdapterSource, type LoraTarget, readTensor } from "../formats/mod.ts";
import { EffectiveRows } from "./effective_rows.ts";
import type { DecoderWeights, Linear } from "./weights.ts";
import { blockLinears } from "./weights.ts";

const SLOT_BYTES = structBytes("apiq_lora_slot");

/** The slot of the model's own calibrated LoRA. Requests' adapters follow it. */
export const CALIBRATED_SLOT = 0;

export class LoraTable implements Disposable {
  readonly #context: Context;
  readonly #adapters: readonly (AdapterSource | null)[];
  readonly #pool: DeviceBuffer;
  readonly #tables: DeviceBuffer;
  readonly #linears: ReadonlyMap<string, Linear>;
  readonly #dtype: "f16" | "f32";
  #used = 0;
  readonly slots: number;
  readonly maxRank: number;

  /**
   * @param adapters by slot; null leaves a slot empty
   * @param dtype how matrices are held: float16 halves their bytes, float32 keeps them exact
   */
  constructor(
    context: Context,
    weights: DecoderWeights,
    adapters: readonly (AdapterSource | null)[],
    dtype: "f16" | "f32",
  ) {
    this.#context = context;
    this.#adapters = adapters;
    const linears = weights.blocks.flatMap(blockLinears);
    this.#linears = new Map(linears.map((linear) => [linear.name, linear]));
    this.#dtype = dtype;
    this.slots = adapters.length;
    const present = adapters.filter((adapter) => adapter !== null);
    for (const adapter of present) this.#check(adapter);
    this.maxRank = Math.max(1, ...present.flatMap((adapter) => [...adapter.targets.values()].map((t) => t.rank)));
    this.#pool = context.alloc(
      Math.max(
        64,
        present.reduce((sum, adapter) => sum + this.#bytesOf(adapter), 0),
      ),
    );
    this.#tables = context.alloc(linears.length * this.slots * SLOT_BYTES);
    for (const [slot, adapter] of adapters.entries()) if (adapter) this.#load(slot, adapter);
  }

  get pool(): Ref {
    return this.#pool.at(0);
  }

  get poolBytes(): number {
    return this.#pool.bytes;
  }

  /** The calibrated LoRA's slot for rows with an adapter's slot, or with -1 for none: -1 where it has no part in them. */
  calibratedSlot(adapterSlot: number): number {
    const replaced = this.#adapters[adapterSlot]?.binding?.replaces;
    return this.#adapters[CALIBRATED_SLOT] === null || replaced ? -1 : CALIBRATED_SLOT;
  }

  slotTable(target: number): Ref {
    return this.#tables.at(target * this.slots * SLOT_BYTES);
  }

  /** Every target must be a linear of this model, with matrices of its shape. */
  #check(adapter: AdapterSource): void {
    for (const [module, { a, b, rank }] of adapter.targets) {
      const linear = this.#linears.get(module);
      if (!linear)
        throw new Error(`Cannot load adapter ${adapter.dir}: it targets ${module}, which this model does not have`);
      const { inFeatures, outFeatures } = linear.weight;
      if (a.shape[0] !== rank || a.shape[1] !== inFeatures || b.shape[0] !== outFeatures || b.shape[1] !== rank) {
        throw new Error(
          `Cannot load adapter ${adapter.dir}: ${module} received A [${a.shape}] and B [${b.shape}], expected A [${rank},${inFeatures}] and B [${outFeatures},${rank}]`,
        );
      }
    }
  }

  #matrixBytes(count: number): number {
    return Math.ceil((count * (this.#dtype === "f16" ? 2 : 4)) / 64) * 64;
  }

  #bytesOf(adapter: AdapterSource): number {
    let bytes = 0;
    for (const { a, b, magnitude } of adapter.targets.values()) {
      bytes += this.#matrixBytes(a.shape[0] * a.shape[1]) + this.#matrixBytes(b.shape[0] * b.shape[1]);
      if (magnitude) bytes += factorBytes(b.shape[0]);
    }
    return bytes;
  }

  #load(slot: number, adapter: AdapterSource): void {
    for (const [module, target] of adapter.targets) {
      const { a, b, rank, scale, magnitude } = target;
      const linear = this.#linears.get(module) as Linear;
      const aOffset = this.#place(readTensor(a));
      const bOffset = this.#place(transpose(readTensor(b), linear.weight.outFeatures, rank));
      if (magnitude) this.#placeFactors(linear, slot, target);
      const dtype = this.#dtype === "f16" ? F16 : F32;
      const factors = magnitude ? 1 : 0;
      const entry = encodeArray("apiq_lora_slot", [{ aOffset, bOffset, rank, dtype, scale, factors }]);
      this.#tables.upload(entry, (linear.loraTarget * this.slots + slot) * SLOT_BYTES);
    }
  }

  /** DoRA's factor and shift of each output, right behind B. A request's adapter is measured on top of what it adds to. */
  #placeFactors(linear: Linear, slot: number, target: LoraTarget): void {
    const stacks = slot !== CALIBRATED_SLOT && this.calibratedSlot(slot) === CALIBRATED_SLOT;
    const below = stacks ? this.#adapters[CALIBRATED_SLOT]!.targets.get(linear.name) : undefined;
    using rows = new EffectiveRows(this.#context, linear.weight, below === undefined ? [target] : [below, target]);
    const factors = rows.factors();
    const { outFeatures } = linear.weight;
    const values = new Float32Array(2 * outFeatures);
    values.set(factors);
    if (linear.bias !== null) {
      const bias = linear.bias.buffer.download(new Float32Array(outFeatures), linear.bias.offset);
      for (let i = 0; i < outFeatures; i++) values[outFeatures + i] = (1 - factors[i]!) * bias[i]!;
    }
    this.#pool.upload(values, this.#used);
    this.#used += factorBytes(outFeatures);
  }

  #place(matrix: Float32Array): number {
    const offset = this.#used;
    this.#pool.upload(this.#dtype === "f16" ? floatsToHalves(matrix) : matrix, offset);
    this.#used += this.#matrixBytes(matrix.length);
    return offset;
  }

  [Symbol.dispose](): void {
    this.#tables[Symbol.dispose]();
    this.#pool[Symbol.dispose]();
  }
}

/** Of DoRA's factors and shifts in the pool. */
function factorBytes(outFeatures: number): number {
  return Math.ceil((2 * 4 * outFeatures) / 64) * 64;
}

/** [rows, cols] -> [cols, rows] */
function transpose(x: Float32Array, rows: number, cols: number): Float32Array {
  const y = new Float32Array(x.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) y[c * rows + r] = x[r * cols + c];
  return y;
}
