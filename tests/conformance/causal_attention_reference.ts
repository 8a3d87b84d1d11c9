/** Attention of whole sequences in float64, and its gradients: what causal_attention and its backward pass are held against. */

export interface CausalShape {
  nSeqs: number;
  seqLen: number;
  nHeads: number;
  nKvHeads: number;
  headDim: number;
  window: number;
  scale: number;
  /** First position that each of the [nSeqs * seqLen] rows sees. */
  rowStart: ArrayLike<number> | null;
}

export interface CausalInputs {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
}

/** Calls f(index of (row, head), offset of the key/value head's row at `position`) for every position that the row sees. */
function eachSeen(shape: CausalShape, rowHead: number, f: (position: number, offset: number) => void): void {
  const { nHeads, nKvHeads, seqLen, headDim, window, rowStart } = shape;
  const row = Math.floor(rowHead / nHeads);
  const kvHead = Math.floor((rowHead % nHeads) / (nHeads / nKvHeads));
  const t = row % seqLen;
  const first = Math.max(rowStart?.[row] ?? 0, window === 0 ? 0 : t - window + 1);
  for (let position = first; position <= t; position++) {
    f(position, ((row - t + position) * nKvHeads + kvHead) * headDim);
  }
}

function dot(a: Float64Array, aOffset: number, b: Float64Array, bOffset: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aOffset + i]! * b[bOffset + i]!;
  return sum;
}

function addScaled(
  target: Float64Array,
  at: number,
  factor: number,
  x: Float64Array,
  from: number,
  count: number,
): void {
  for (let i = 0; i < count; i++) target[at + i]! += factor * x[from + i]!;
}

/** y and the log-sum-exp of the scaled scores of every (row, head). */
export function causalAttention(shape: CausalShape, { q, k, v }: CausalInputs): { y: Float64Array; lse: Float64Array } {
  const { headDim } = shape;
  const y = new Float64Array(q.length);
  const lse = new Float64Array(q.length / headDim);
  for (let rowHead = 0; rowHead < lse.length; rowHead++) {
    const at = rowHead * headDim;
    const scores: number[] = [];
    eachSeen(shape, rowHead, (_, offset) => scores.push(shape.scale * dot(q, at, k, offset, headDim)));
    const most = Math.max(...scores);
    const sum = scores.reduce((total, score) => total + Math.exp(score - most), 0);
    lse[rowHead] = most + Math.log(sum);
    let i = 0;
    eachSeen(shape, rowHead, (_, offset) => addScaled(y, at, Math.exp(scores[i++]! - most) / sum, v, offset, headDim));
  }
  return { y, lse };
}

/** Gradients of sum(y * dy). */
export function causalAttentionBackward(shape: CausalShape, inputs: CausalInputs, dy: Float64Array): CausalInputs {
  const { q, k, v } = inputs;
  const { headDim, scale } = shape;
  const { y, lse } = causalAttention(shape, inputs);
  const gradients = {
    q: new Float64Array(q.length),
    k: new Float64Array(k.length),
    v: new Float64Array(v.length),
  };
  for (let rowHead = 0; rowHead < lse.length; rowHead++) {
    const at = rowHead * headDim;
    const delta = dot(dy, at, y, at, headDim);
    eachSeen(shape, rowHead, (_, offset) => {
      const p = Math.exp(scale * dot(q, at, k, offset, headDim) - lse[rowHead]!);
      const ds = scale * p * (dot(dy, at, v, offset, headDim) - delta);
      addScaled(gradients.v, offset, p, dy, at, headDim);
      addScaled(gradients.q, at, ds, k, offset, headDim);
      addScaled(gradients.k, offset, ds, q, at, headDim);
    });
  }
  return gradients;
}
