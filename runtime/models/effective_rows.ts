/** The dense matrix that a stored one and its adapters amount to: rows of W + scale B A, with DoRA's lengths. */
import { COMPUTE_F32, type Context, type DeviceBuffer, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import type { LoraMatrices } from "../formats/mod.ts";

const SLAB_VALUES = 4 << 20;

/** An adapter's part of one matrix, on the device. */
interface PlacedLora {
  /** float32 [rank, in] */
  readonly a: Ref;
  /** float32 [out, rank] */
  readonly b: Ref;
  readonly rank: number;
  readonly scale: number;
  readonly magnitude: Float32Array | null;
}

/** Rows in order, some megabytes at a time. */
export class EffectiveRows implements Disposable {
  readonly #context: Context;
  readonly #weight: Weight;
  readonly #loras: readonly PlacedLora[];
  readonly #owned: DeviceBuffer[] = [];
  readonly #slab: DeviceBuffer;
  readonly #norms: DeviceBuffer;
  readonly #ids: DeviceBuffer;
  /** Rows that one slab holds. */
  readonly slabRows: number;

  /** @param loras applied in this order, each to what those before it made of the matrix */
  constructor(context: Context, weight: Weight, loras: readonly LoraMatrices[]) {
    this.#context = context;
    this.#weight = weight;
    const { outFeatures, inFeatures } = weight;
    this.slabRows = Math.min(outFeatures, Math.max(16, Math.floor(SLAB_VALUES / inFeatures)));
    this.#slab = this.#own(context.alloc(this.slabRows * inFeatures * 4));
    this.#norms = this.#own(context.alloc(this.slabRows * 4));
    this.#ids = this.#own(context.alloc(this.slabRows * 4));
    this.#loras = loras.map(({ a, b, rank, scale, magnitude }) => ({
      a: this.#upload(a),
      b: this.#upload(b),
      rank,
      scale,
      magnitude,
    }));
  }

  /** float32 [count, in], a copy. `count` is at most `slabRows`. */
  read(first: number, count: number): Float32Array<ArrayBuffer> {
    this.#base(first, count);
    for (const lora of this.#loras) this.#apply(lora, first, count);
    return this.#slab.download(new Float32Array(count * this.#weight.inFeatures));
  }

  /**
   * DoRA's factors m / |W + scale B A| of the last adapter, which must be one: float32 [count], 0 for a row of zeros. `count` is at
   * most `slabRows`.
   */
  factors(first: number, count: number): Float32Array<ArrayBuffer> {
    this.#base(first, count);
    for (const lora of this.#loras.slice(0, -1)) this.#apply(lora, first, count);
    const last = this.#loras.at(-1);
    if (!last?.magnitude) throw new Error("Cannot compute DoRA's factors: the last adapter has no magnitudes");
    this.#add(last, first, count);
    return this.#factors(last.magnitude, first, count);
  }

  /** The slab becomes rows of the stored matrix. A dense one is widened by looking its rows up. */
  #base(first: number, count: number): void {
    const y = this.#slab.at(0);
    if (this.#weight.kind !== WEIGHT_DENSE) {
      this.#context.weightDequantize({ weight: this.#weight, y, firstRow: first, nRows: count });
      return;
    }
    this.#ids.upload(Int32Array.from({ length: count }, (_, i) => first + i));
    this.#context.embedding({ table: this.#weight, ids: this.#ids.at(0), y, rows: count });
  }

  #apply(lora: PlacedLora, first: number, count: number): void {
    this.#add(lora, first, count);
    if (lora.magnitude) this.#stretch(this.#factors(lora.magnitude, first, count), count);
  }

  /** Adds scale B A to the slab. */
  #add({ a, b, rank, scale }: PlacedLora, first: number, count: number): void {
    const { inFeatures } = this.#weight;
    this.#context.gemm({
      a: { buffer: b.buffer, offset: b.offset + first * rank * 4 },
      b: a,
      c: this.#slab.at(0),
      m: count,
      n: inFeatures,
      k: rank,
      transposeA: 0,
      transposeB: 0,
      lda: rank,
      ldb: inFeatures,
      ldc: inFeatures,
      alpha: scale,
      beta: 1,
      compute: COMPUTE_F32,
    });
  }

  /** What each row of the slab has to be multiplied by to get its magnitude as length. A row of zeros stays one. */
  #factors(magnitude: Float32Array, first: number, count: number): Float32Array<ArrayBuffer> {
    const cols = this.#weight.inFeatures;
    this.#context.rowNorms({ x: this.#slab.at(0), y: this.#norms.at(0), rows: count, cols });
    const norms = this.#norms.download(new Float32Array(count));
    return norms.map((norm, row) => (norm === 0 ? 0 : magnitude[first + row]! / norm));
  }

  #stretch(factors: Float32Array, count: number): void {
    const cols = this.#weight.inFeatures;
    const values = this.#slab.download(new Float32Array(count * cols));
    for (let row = 0; row < count; row++) {
      for (let i = row * cols; i < (row + 1) * cols; i++) values[i]! *= factors[row]!;
    }
    this.#slab.upload(values);
  }

  #upload(values: Float32Array): Ref {
    const buffer = this.#own(this.#context.alloc(values.byteLength));
    buffer.upload(values);
    return buffer.at(0);
  }

  #own(buffer: DeviceBuffer): DeviceBuffer {
    this.#owned.push(buffer);
    return buffer;
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#owned.splice(0)) buffer[Symbol.dispose]();
  }
}
