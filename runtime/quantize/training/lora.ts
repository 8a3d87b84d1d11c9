/** LoRA of one linear while it trains. */
import type { Context, Ref } from "../../../ffi/mod.ts";
import type { Linear } from "../../models/weights.ts";
import { matmul } from "../../ops/matmul.ts";
import type { TrainableLora } from "../../ops/training.ts";
import type { ParameterGroup } from "../../training/parameters.ts";
import { roundToHalf } from "../lut.ts";
import type { LoraMatrices, MethodSettings } from "../method.ts";
import { uniform } from "../random.ts";

/** First values of A [rank, in], B [out, rank] and, for DoRA, the magnitude [out]. */
export interface InitialLora {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly magnitude: Float32Array | null;
}

type LoraSettings = Pick<MethodSettings, "rank" | "alpha" | "dora">;

/** Of a matrix [out, in]. */
interface MatrixShape {
  readonly outFeatures: number;
  readonly inFeatures: number;
}

/** Sizes of the tensors that `LoraTraining` takes from a parameter group. */
export function loraParameterSizes(
  { weight }: { readonly weight: MatrixShape },
  { rank, dora }: Pick<LoraSettings, "rank" | "dora">,
): readonly number[] {
  return [rank * weight.inFeatures, weight.outFeatures * rank, ...(dora ? [weight.outFeatures] : [])];
}

/**
 * What LoRA starts from: A uniform in +-1/sqrt(in) (peft's kaiming_uniform with a = sqrt 5), B zero, and as DoRA's magnitude the
 * row norms of the full-precision weight.
 * @param place tells the block and the linear
 */
export function initialLora(
  context: Context,
  linear: Linear,
  { rank, dora, seed }: LoraSettings & Pick<MethodSettings, "seed">,
  place: readonly number[],
): InitialLora {
  const { outFeatures, inFeatures } = linear.weight;
  return {
    a: uniform(rank * inFeatures, 1 / Math.sqrt(inFeatures), seed, ...place),
    b: new Float32Array(outFeatures * rank),
    magnitude: dora ? rowNorms(context, linear) : null,
  };
}

/** |W| of each row, [out]. */
export function rowNorms(context: Context, { weight }: Linear): Float32Array {
  const { data, outFeatures: rows, inFeatures: cols } = weight;
  using buffer = context.alloc(rows * 4);
  context.rowNorms({ x: data as Ref, y: buffer.at(0), rows, cols });
  return buffer.download(new Float32Array(rows));
}

/** w -= scale b a, for w [out, in] */
export function subtractLora(
  w: Float32Array,
  { a, b }: Pick<InitialLora, "a" | "b">,
  inFeatures: number,
  scale: number,
): void {
  const rank = a.length / inFeatures;
  const product = new Float64Array(inFeatures);
  for (let row = 0; row * inFeatures < w.length; row++) {
    product.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[row * rank + r] * scale;
      for (let i = 0; i < inFeatures; i++) product[i] += factor * a[r * inFeatures + i];
    }
    for (let i = 0; i < inFeatures; i++) w[row * inFeatures + i] -= product[i];
  }
}

export class LoraTraining {
  readonly #context: Context;
  readonly #linear: Linear;
  readonly #settings: LoraSettings;
  readonly #sizes: readonly number[];
  readonly trainable: TrainableLora;

  constructor(
    context: Context,
    linear: Linear,
    parameters: ParameterGroup,
    settings: LoraSettings,
    initial: InitialLora,
  ) {
    this.#context = context;
    this.#linear = linear;
    this.#settings = settings;
    this.#sizes = loraParameterSizes(linear, settings);
    const a = parameters.place(initial.a);
    const b = parameters.place(initial.b);
    const magnitude = initial.magnitude && parameters.place(initial.magnitude);
    this.trainable = {
      a: a.value,
      b: b.value,
      da: a.gradient,
      db: b.gradient,
      rank: settings.rank,
      scale: settings.alpha / settings.rank,
      dora: magnitude && { magnitude: magnitude.value, dmagnitude: magnitude.gradient },
    };
  }

  /**
   * Adds scale B A to a weight, float32 [out, in]. Where the gradient of the sum is computed anyway, this is all LoRA costs
   * forward.
   */
  mergeInto(weight: Ref): void {
    const { a, b, rank, scale } = this.trainable;
    const { outFeatures, inFeatures } = this.#linear.weight;
    const shape = { m: outFeatures, n: inFeatures, k: rank };
    matmul(this.#context, { a: b, b: a, c: weight, ...shape, alpha: scale, add: true });
  }

  /** Gradients of A and B from that of the merged weight: dA = scale B^T dW and dB = scale dW A^T. */
  backward(dweight: Ref): void {
    const { a, b, da, db, rank, scale: alpha } = this.trainable;
    const { outFeatures: out, inFeatures } = this.#linear.weight;
    const [gradientA, gradientB] = [da as Ref, db as Ref];
    matmul(this.#context, { a: b, b: dweight, c: gradientA, m: rank, n: inFeatures, k: out, transposeA: true, alpha });
    matmul(this.#context, { a: dweight, b: a, c: gradientB, m: out, n: rank, k: inFeatures, transposeB: true, alpha });
  }

  /** @param storable rounds the matrices to float16 values, as they are stored */
  read(storable: boolean): LoraMatrices {
    const { a, b, dora } = this.trainable;
    const [sizeA, sizeB, sizeMagnitude] = this.#sizes;
    const round = (values: Float32Array): Float32Array => (storable ? roundToHalf(values) : values);
    return {
      a: round(download(a, sizeA)),
      b: round(download(b, sizeB)),
      rank: this.#settings.rank,
      alpha: this.#settings.alpha,
      magnitude: dora ? download(dora.magnitude, sizeMagnitude) : null,
    };
  }
}

function download(ref: Ref, count: number): Float32Array {
  return ref.buffer.download(new Float32Array(count), ref.offset);
}
