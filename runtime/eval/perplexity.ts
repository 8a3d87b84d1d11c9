/** Perplexity over windows of a text. */
import type { LoadedModel } from "../engine/loaded_model.ts";
import { sequenceNlls } from "./nll.ts";

export interface Perplexity {
  /** exp(nll) */
  ppl: number;
  /** Mean nats of a predicted token. */
  nll: number;
  windows: number;
  /** Predicted tokens: all but the first of each window. */
  tokens: number;
}

/**
 * @param windows token ids, each at least 2 and at most the model's context long; a window knows nothing of the one before
 * @param adapterSlot LoRA slot of an adapter, or -1
 * @param progress called every few tokens with the number of tokens that went through the model and the result over the windows
 *   that are finished, and awaited; what it throws ends the run
 */
export async function perplexity(
  loaded: LoadedModel,
  windows: readonly (readonly number[])[],
  adapterSlot: number,
  progress: (done: number, soFar: Perplexity) => void | Promise<void> = () => {},
): Promise<Perplexity> {
  let sum = 0;
  let tokens = 0;
  let result: Perplexity = { ppl: Number.NaN, nll: Number.NaN, windows: 0, tokens: 0 };
  await sequenceNlls(loaded, windows, adapterSlot, async (done, nlls) => {
    for (const newest of nlls.slice(result.windows)) {
      sum = newest.reduce((total, nats) => total + nats, sum);
      tokens += newest.length;
      result = { ppl: Math.exp(sum / tokens), nll: sum / tokens, windows: nlls.length, tokens };
    }
    await progress(done, result);
  });
  return result;
}
