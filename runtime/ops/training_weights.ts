/**
 * Weights as the training ops multiply with them: dense float32. What is stored otherwise is dequantised into one shared buffer,
 * again in the backward pass, so that a frozen base costs its packed size and one buffer (ModuLoRA, arXiv 2309.16119).
 */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";

/** Rows `first` to `first + rows` of a weight, float32 [rows, in]. */
export type UseRows = (weight: Ref, first: number, rows: number) => void;

/** One factor for each group of a packed weight, float32 [out, in / group]: w = factor * stored weight. */
export type GroupFactors = Ref;

/** 64 MiB: a piece of this size keeps a product's overhead small, and the largest matrix of a 70B model would take 940 MB. */
const MOST_ELEMENTS = 16 << 20;

/** Elements of the shared buffer: the largest matrix of a block, up to 64 MiB. Larger ones pass through in pieces of whole rows. */
function sharedElements(config: DecoderConfig): number {
  const { hiddenSize, intermediateSize, heads, headDim } = config;
  const longestRow = Math.max(hiddenSize, intermediateSize, heads * headDim);
  return Math.max(longestRow, Math.min(MOST_ELEMENTS, hiddenSize * Math.max(intermediateSize, heads * headDim)));
}

/** Device memory of the shared buffer. */
export function sharedWeightBytes(config: DecoderConfig): number {
  return sharedElements(config) * 4;
}

export class TrainingWeights implements Disposable {
  readonly #context: Context;
  readonly #elements: number;
  #shared: DeviceBuffer | null = null;
  /** int32 0, 1, 2 ..: the rows to widen of a 16-bit matrix. */
  #rows: DeviceBuffer | null = null;

  constructor(context: Context, config: DecoderConfig) {
    this.#context = context;
    this.#elements = sharedElements(config);
  }

  /** Calls `use` with all rows of `weight` in order: at once where they fit. The contents are valid until the next `use`. */
  visit(weight: Weight, use: UseRows): void {
    if (isDenseFloat32(weight)) {
      use(weight.data as Ref, 0, weight.outFeatures);
      return;
    }
    const most = Math.floor(this.#elements / weight.inFeatures);
    this.#shared ??= this.#context.alloc(this.#elements * 4);
    const y = this.#shared.at(0);
    for (let first = 0; first < weight.outFeatures; first += most) {
      const rows = Math.min(most, weight.outFeatures - first);
      this.#widen(weight, y, first, rows);
      use(y, first, rows);
    }
  }

  /** Multiplies rows `first` to `first + rows` of a packed weight, as `visit` gave them, by their factors. */
  scale(weight: Weight, values: Ref, factors: GroupFactors, first: number, rows: number): void {
    const { group: cols, inFeatures } = weight;
    const groups = inFeatures / cols;
    const scale = { buffer: factors.buffer, offset: factors.offset + first * groups * 4 };
    this.#context.scaleRows({ x: values, scale, y: values, rows: rows * groups, cols });
  }

  #widen(weight: Weight, y: Ref, first: number, rows: number): void {
    if (weight.kind !== WEIGHT_DENSE) {
      this.#context.weightDequantize({ weight, y, firstRow: first, nRows: rows });
      return;
    }
    if (!this.#rows || this.#rows.bytes < weight.outFeatures * 4) {
      this.#rows?.[Symbol.dispose]();
      this.#rows = this.#context.alloc(weight.outFeatures * 4);
      this.#rows.upload(Int32Array.from({ length: weight.outFeatures }, (_, row) => row));
    }
    this.#context.embedding({ table: weight, ids: this.#rows.at(first * 4), y, rows });
  }

  [Symbol.dispose](): void {
    this.#shared?.[Symbol.dispose]();
    this.#rows?.[Symbol.dispose]();
  }
}

function isDenseFloat32(weight: Weight): boolean {
  return weight.kind === WEIGHT_DENSE && weight.dtype === F32;
}
