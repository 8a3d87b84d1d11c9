/** How far a model's predictions are from a reference's: Kullback-Leibler divergence and agreement of the likeliest token. */
import type { LoadedModel } from "../engine/loaded_model.ts";
import { SCORE_ROWS } from "../engine/text_scorer.ts";

export interface Divergence {
  /** Mean over positions of KL(reference || model), in nats. */
  kl: number;
  /** Share of positions where both find the same token likeliest. */
  agreement: number;
  /** Begun, if not finished. */
  windows: number;
  /** Positions compared: all of every window, the last one included. */
  tokens: number;
}

export interface Scored {
  loaded: LoadedModel;
  /** LoRA slot of an adapter, or -1. */
  adapterSlot: number;
}

/**
 * Compares two models of one vocabulary position by position. A few rows of logits of each exist at a time.
 *
 * @param windows token ids, each at most as long as the context of either model
 * @param progress called every few tokens with the result so far, and awaited; what it throws ends the run
 */
export async function divergence(
  reference: Scored,
  model: Scored,
  windows: readonly (readonly number[])[],
  progress: (soFar: Divergence) => void | Promise<void> = () => {},
): Promise<Divergence> {
  const vocab = reference.loaded.config.vocabSize;
  if (model.loaded.config.vocabSize !== vocab) {
    throw new Error(
      `Cannot compare the models: received vocabularies of ${model.loaded.config.vocabSize} and ${vocab} tokens, expected the same`,
    );
  }
  const p = new Float32Array(SCORE_ROWS * vocab);
  const q = new Float32Array(SCORE_ROWS * vocab);
  let sum = 0;
  let agreed = 0;
  let tokens = 0;
  let result: Divergence = { kl: Number.NaN, agreement: Number.NaN, windows: 0, tokens: 0 };
  for (const [index, window] of windows.entries()) {
    const other = model.loaded.runner.scorer.text(window, model.adapterSlot);
    for (const { logits, rows } of reference.loaded.runner.scorer.text(window, reference.adapterSlot)) {
      // Both scorers cut a text into the same chunks when they allow the same number of rows in a pass.
      const chunk = other.next().value;
      if (chunk?.rows !== rows) throw new Error(`Cannot compare the models: chunks of ${chunk?.rows} and ${rows} rows`);
      logits.buffer.download(p.subarray(0, rows * vocab), logits.offset);
      chunk.logits.buffer.download(q.subarray(0, rows * vocab), chunk.logits.offset);
      for (let row = 0; row < rows; row++) {
        const compared = compareLogits(p, q, row * vocab, vocab);
        sum += compared.kl;
        agreed += compared.agree ? 1 : 0;
      }
      tokens += rows;
      result = { kl: sum / tokens, agreement: agreed / tokens, windows: index + 1, tokens };
      await progress(result);
    }
    other.next();
  }
  return result;
}

/**
 * KL(p || q) in nats of the distributions whose logits are [begin, begin + count) of `p` and `q`:
 * sum_i p_i (a_i - b_i) - log sum exp(a) + log sum exp(b), in float64; and whether both have their largest logit at the same place.
 */
export function compareLogits(
  p: Float32Array,
  q: Float32Array,
  begin: number,
  count: number,
): { kl: number; agree: boolean } {
  let bestP = begin;
  let bestQ = begin;
  for (let i = begin + 1; i < begin + count; i++) {
    if (p[i] > p[bestP]) bestP = i;
    if (q[i] > q[bestQ]) bestQ = i;
  }
  const maxP = p[bestP];
  const maxQ = q[bestQ];
  let sumP = 0;
  let sumQ = 0;
  let weighted = 0;
  for (let i = begin; i < begin + count; i++) {
    const a = p[i] - maxP;
    const b = q[i] - maxQ;
    const weight = Math.exp(a);
    sumP += weight;
    sumQ += Math.exp(b);
    weighted += weight * (a - b);
  }
  return { kl: weighted / sumP - Math.log(sumP) + Math.log(sumQ), agree: bestP === bestQ };
}
