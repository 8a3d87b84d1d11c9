/** The decoder block in float64, written from the formulas: forward only, so that central differences give its gradients. */
import type { DecoderConfig } from "../../runtime/models/config.ts";

/** One linear with all that can be on top of it. Matrices are row-major. */
export interface ReferenceLinear {
  /** [out, in] */
  w: Float64Array;
  outFeatures: number;
  inFeatures: number;
  bias: Float64Array | null;
  lora: {
    /** [rank, in] */
    a: Float64Array;
    /** [out, rank] */
    b: Float64Array;
    rank: number;
    scale: number;
    /** What dropout leaves of the input [rows, in]; absent: all of it. */
    dropout?: ((x: Float64Array) => Float64Array) | undefined;
    /** DoRA: magnitude [out], and the row norms that count as constants. */
    dora: { magnitude: Float64Array; norms: Float64Array } | null;
  } | null;
}

export interface ReferenceBlock {
  config: DecoderConfig;
  sequences: number;
  length: number;
  /** [rows], where several examples lie in a sequence: each row's position, and the first row of its sequence that it sees. */
  positions?: Int32Array | undefined;
  rowStart?: Int32Array | undefined;
  inverseFrequencies: ArrayLike<number>;
  inputNorm: Float64Array;
  postAttentionNorm: Float64Array;
  qNorm: Float64Array | null;
  kNorm: Float64Array | null;
  /** q, k, v, o, gate, up, down */
  linears: readonly ReferenceLinear[];
}

/** x [rows, k] times w [n, k] transposed. */
function product(x: Float64Array, w: Float64Array, n: number, k: number): Float64Array {
  const rows = x.length / k;
  const y = new Float64Array(rows * n);
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < n; o++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[r * k + i] * w[o * k + i];
      y[r * n + o] = sum;
    }
  }
  return y;
}

/** |W + scale B A| of each row. */
export function mergedNorms({ w, outFeatures, inFeatures, lora }: ReferenceLinear): Float64Array {
  return Float64Array.from({ length: outFeatures }, (_, o) => {
    let squares = 0;
    for (let i = 0; i < inFeatures; i++) {
      let value = w[o * inFeatures + i];
      for (let r = 0; lora && r < lora.rank; r++)
        value += lora.scale * lora.b[o * lora.rank + r] * lora.a[r * inFeatures + i];
      squares += value * value;
    }
    return Math.sqrt(squares);
  });
}

function linear(x: Float64Array, { w, outFeatures: n, inFeatures: k, bias, lora }: ReferenceLinear): Float64Array {
  const y = product(x, w, n, k);
  if (lora) {
    const low = product(lora.dropout?.(x) ?? x, lora.a, lora.rank, k);
    const delta = product(low, lora.b, n, lora.rank);
    const { dora } = lora;
    for (let i = 0; i < y.length; i++) {
      y[i] += lora.scale * delta[i];
      if (dora) y[i] *= dora.magnitude[i % n] / dora.norms[i % n];
    }
  }
  if (bias) for (let i = 0; i < y.length; i++) y[i] += bias[i % n];
  return y;
}

export function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const size = weight.length;
  const y = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += x[first + i] ** 2;
    const scale = 1 / Math.sqrt(squares / size + eps);
    for (let i = 0; i < size; i++) y[first + i] = x[first + i] * scale * weight[i];
  }
  return y;
}

function rotate(x: Float64Array, heads: number, block: ReferenceBlock): Float64Array {
  const { config, length, positions, inverseFrequencies } = block;
  const { headDim } = config;
  const half = headDim / 2;
  const y = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += headDim) {
    const row = Math.floor(first / (heads * headDim));
    const position = positions?.[row] ?? row % length;
    for (let i = 0; i < half; i++) {
      const angle = position * inverseFrequencies[i];
      const [low, high] = [x[first + i], x[first + i + half]];
      y[first + i] = low * Math.cos(angle) - high * Math.sin(angle);
      y[first + i + half] = high * Math.cos(angle) + low * Math.sin(angle);
    }
  }
  return y;
}

function attention(
  [q, k, v]: readonly Float64Array[],
  window: number,
  { config, sequences, length, rowStart }: ReferenceBlock,
): Float64Array {
  const { heads, kvHeads, headDim } = config;
  const y = new Float64Array(q.length);
  const query = (s: number, t: number, h: number): number => ((s * length + t) * heads + h) * headDim;
  const key = (s: number, t: number, h: number): number =>
    ((s * length + t) * kvHeads + Math.floor(h / (heads / kvHeads))) * headDim;
  for (let s = 0; s < sequences; s++) {
    for (let t = 0; t < length; t++) {
      for (let h = 0; h < heads; h++) {
        const at = query(s, t, h);
        const begin = Math.max(rowStart?.[s * length + t] ?? 0, window > 0 ? t - window + 1 : 0);
        const weights: number[] = [];
        for (let u = begin; u <= t; u++) {
          let score = 0;
          for (let i = 0; i < headDim; i++) score += q[at + i] * k[key(s, u, h) + i];
          weights.push(Math.exp(score / Math.sqrt(headDim)));
        }
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let u = begin; u <= t; u++) {
          for (let i = 0; i < headDim; i++) y[at + i] += (weights[u - begin] / total) * v[key(s, u, h) + i];
        }
      }
    }
  }
  return y;
}

/** x [sequences * length, hidden] through the block. */
export function referenceBlock(block: ReferenceBlock, layer: number, x: Float64Array): Float64Array {
  const { config, qNorm, kNorm } = block;
  const [q, k, v, o, gate, up, down] = block.linears;
  const eps = config.rmsNormEps;
  const normed = rmsNorm(x, block.inputNorm, eps);
  let [queries, keys] = [linear(normed, q), linear(normed, k)];
  if (qNorm) queries = rmsNorm(queries, qNorm, eps);
  if (kNorm) keys = rmsNorm(keys, kNorm, eps);
  queries = rotate(queries, config.heads, block);
  keys = rotate(keys, config.kvHeads, block);
  const attended = linear(attention([queries, keys, linear(normed, v)], config.windows[layer], block), o);
  const middle = x.map((value, i) => value + attended[i]);
  const mlpInput = rmsNorm(middle, block.postAttentionNorm, eps);
  const gates = linear(mlpInput, gate);
  const ups = linear(mlpInput, up);
  const inner = gates.map((value, i) => (value / (1 + Math.exp(-value))) * ups[i]);
  const result = linear(inner, down);
  return middle.map((value, i) => value + result[i]);
}
