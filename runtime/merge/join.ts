/** One LoRA out of several of the same linear: their weighted sum, exact by joining ranks, or of a lower rank. */
import { orthonormalizeRows } from "../quantize/linalg/orthonormal.ts";
import { productSvd } from "../quantize/linalg/svd.ts";

/** scale B A, in peft's layout. */
export interface LoraFactors {
  /** float32 [rank, in] */
  readonly a: Float32Array<ArrayBuffer>;
  /** float32 [out, rank] */
  readonly b: Float32Array<ArrayBuffer>;
  readonly rank: number;
  /** Not 0; negative where the term is subtracted. */
  readonly scale: number;
}

/**
 * The sum of the terms: the A matrices below each other, the B matrices side by side. Those of the first term and of all with a
 * scale of the same size stay as they are, apart from signs; the others' B is rounded once.
 *
 * @param terms at least one
 * @returns with a scale above 0
 */
export function joinRanks(terms: readonly LoraFactors[]): LoraFactors {
  const [first] = terms as [LoraFactors];
  const scale = Math.abs(first.scale);
  const rank = terms.reduce((sum, term) => sum + term.rank, 0);
  const inFeatures = first.a.length / first.rank;
  const outFeatures = first.b.length / first.rank;
  const a = new Float32Array(rank * inFeatures);
  const b = new Float32Array(outFeatures * rank);
  let at = 0;
  for (const term of terms) {
    a.set(term.a, at * inFeatures);
    const factor = term.scale / scale;
    for (let row = 0; row < outFeatures; row++) {
      for (let k = 0; k < term.rank; k++) b[row * rank + at + k] = factor * term.b[row * term.rank + k]!;
    }
    at += term.rank;
  }
  return { a, b, rank, scale };
}

export interface TruncatedLora extends LoraFactors {
  /** Squares of the sum's elements, and of those the part that the result has: its largest singular values'. */
  readonly squares: number;
  readonly kept: number;
}

/**
 * The matrix of `rank` that is nearest to the sum of the terms (Eckart and Young, 1936). The sum B A is never formed: with the
 * columns of B made orthonormal as Q, its singular values are those of the small (Q^T B) A. In float64, singular values shared
 * evenly between A and B, scale 1.
 */
export function truncateRanks(terms: readonly LoraFactors[], rank: number): TruncatedLora {
  const size = terms.reduce((sum, term) => sum + term.rank, 0);
  const a = concatenated(terms.map((term) => term.a));
  const columns = concatenated(terms.map(columnsOf));
  const inFeatures = a.length / size;
  const outFeatures = columns.length / size;
  const basis = Float64Array.from(columns);
  // Once more: after one pass, nearly dependent columns are not orthogonal to the last bit.
  orthonormalizeRows(basis, size, outFeatures);
  orthonormalizeRows(basis, size, outFeatures);
  const product = combinedRows(rowProducts(basis, columns, size, outFeatures), a, size, inFeatures);
  const { u, values, v } = productSvd(basis, product, size, outFeatures, inFeatures, rank);
  const result = { a: new Float32Array(rank * inFeatures), b: new Float32Array(outFeatures * rank) };
  for (const [i, value] of values.entries()) {
    const root = Math.sqrt(value);
    for (let c = 0; c < inFeatures; c++) result.a[i * inFeatures + c] = root * v[i * inFeatures + c]!;
    for (let r = 0; r < outFeatures; r++) result.b[r * rank + i] = root * u[i * outFeatures + r]!;
  }
  const sumSquares = (x: Float64Array): number => x.reduce((sum, value) => sum + value * value, 0);
  return { ...result, rank, scale: 1, squares: sumSquares(product), kept: sumSquares(values) };
}

/** scale B, column by column. */
function columnsOf({ b, rank, scale }: LoraFactors): Float64Array {
  const outFeatures = b.length / rank;
  return Float64Array.from(b, (_, i) => scale * b[(i % outFeatures) * rank + Math.floor(i / outFeatures)]!);
}

function concatenated(parts: readonly (Float32Array | Float64Array)[]): Float64Array {
  const all = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** x y^T of two matrices [count, size]: [count, count]. */
function rowProducts(x: Float64Array, y: Float64Array, count: number, size: number): Float64Array {
  const products = new Float64Array(count * count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      let sum = 0;
      for (let k = 0; k < size; k++) sum += x[i * size + k]! * y[j * size + k]!;
      products[i * count + j] = sum;
    }
  }
  return products;
}

/** weights x of weights [count, count] and x [count, size]. */
function combinedRows(weights: Float64Array, x: Float64Array, count: number, size: number): Float64Array {
  const sum = new Float64Array(count * size);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      const weight = weights[i * count + j]!;
      for (let k = 0; k < size; k++) sum[i * size + k] = sum[i * size + k]! + weight * x[j * size + k]!;
    }
  }
  return sum;
}
