/** The sampler of apiq.h written plainly: a full sort, float64 weights, one step after another. */

import type { SampleParams } from "../../ffi/mod.ts";

const MASK32 = 0xffffffffn;

/** Philox4x32-10 at counter (counter, 0), as four 32-bit words. */
export function philox(key: bigint, counter: bigint): [bigint, bigint, bigint, bigint] {
  let x: [bigint, bigint, bigint, bigint] = [counter & MASK32, counter >> 32n, 0n, 0n];
  let [k0, k1] = [key & MASK32, key >> 32n];
  for (let round = 0; round < 10; round++) {
    const [even, odd] = [0xd2511f53n * x[0], 0xcd9e8d57n * x[2]];
    x = [(odd >> 32n) ^ x[1] ^ k0, odd & MASK32, (even >> 32n) ^ x[3] ^ k1, even & MASK32];
    [k0, k1] = [(k0 + 0x9e3779b9n) & MASK32, (k1 + 0xbb67ae85n) & MASK32];
  }
  return x;
}

export function uniform(params: SampleParams): number {
  const [w0, w1] = philox(BigInt(params.seed), BigInt(params.position));
  return Number(((w1 << 32n) | w0) >> 11n) * 2 ** -53;
}

export interface Extras {
  /** The row of `history` that the parameters name. */
  history?: readonly number[];
  bias?: readonly { token: number; bias: number }[];
  /** Whether a token may be drawn. */
  allowed?: (token: number) => boolean;
}

const f32 = Math.fround;

function adjust(logits: Float32Array, params: SampleParams, { history = [], bias = [], allowed }: Extras): number[] {
  const adjusted = [...logits];
  const all = history.slice(0, params.historyTokens);
  const output = all.slice(params.promptTokens);
  for (const token of new Set(all)) {
    const count = output.filter((other) => other === token).length;
    const logit = adjusted[token]!;
    const repetition = f32(params.repetitionPenalty);
    let value = f32(logit > 0 ? logit / repetition : logit * repetition);
    value = f32(value - f32(count * f32(params.frequencyPenalty)));
    adjusted[token] = count > 0 ? f32(value - f32(params.presencePenalty)) : value;
  }
  for (const entry of bias.slice(params.biasFirst, params.biasFirst + params.biasCount)) {
    adjusted[entry.token] = f32(adjusted[entry.token]! + f32(entry.bias));
  }
  return allowed ? adjusted.map((logit, token) => (allowed(token) ? logit : -Infinity)) : adjusted;
}

/** The tokens that can be drawn, most likely first, with their probabilities. */
export function candidates(
  logits: Float32Array,
  params: SampleParams,
  extras: Extras = {},
): { token: number; probability: number }[] {
  const adjusted = adjust(logits, params, extras);
  let kept = adjusted.map((logit, token) => ({ logit, token })).filter(({ logit }) => logit > -Infinity);
  kept.sort((a, b) => b.logit - a.logit || a.token - b.token);
  const most = kept[0]!.logit;
  if (params.temperature === 0) return [{ token: kept[0]!.token, probability: 1 }];
  const temperature = f32(params.temperature);
  const weight = ({ logit }: { logit: number }) => Math.exp((logit - most) / temperature);
  if (params.topK > 0) kept = kept.slice(0, params.topK);
  if (params.topP < 1) {
    const goal = f32(params.topP) * kept.reduce((sum, entry) => sum + weight(entry), 0);
    let mass = 0;
    let n = 0;
    while (n < kept.length && mass < goal) mass += weight(kept[n++]!);
    kept = kept.slice(0, n);
  }
  if (params.minP > 0) kept = kept.filter(({ logit }) => logit >= most + temperature * Math.log(f32(params.minP)));
  const total = kept.reduce((sum, entry) => sum + weight(entry), 0);
  return kept.map((entry) => ({ token: entry.token, probability: weight(entry) / total }));
}

/** The token that the parameters' seed and position draw. */
export function draw(logits: Float32Array, params: SampleParams, extras: Extras = {}): number {
  const u = uniform(params);
  const list = candidates(logits, params, extras);
  let mass = 0;
  for (const { token, probability } of list) {
    mass += probability;
    if (mass > u) return token;
  }
  return list.at(-1)!.token;
}

/** log softmax of the raw logits. */
export function logProbabilities(logits: Float32Array): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
  return Float64Array.from(logits, (logit) => logit - most - Math.log(sum));
}
