/** Negative log-likelihood of given tokens: what every comparison of models rests on. */
import type { DeviceBuffer } from "../../ffi/mod.ts";
import type { LoadedModel } from "../engine/loaded_model.ts";
import { SCORE_ROWS } from "../engine/text_scorer.ts";

/**
 * @param sequences token ids, each at least 2 and at most the model's context long
 * @param adapterSlot LoRA slot of an adapter, or -1
 * @param progress called every few tokens with the number of tokens scored and the results of the finished sequences, and
 *   awaited; what it throws ends the run
 * @returns for each sequence the nats of its tokens from the second on, each given all tokens before it
 */
export async function sequenceNlls(
  loaded: LoadedModel,
  sequences: readonly (readonly number[])[],
  adapterSlot: number,
  progress: (tokens: number, nlls: readonly Float32Array[]) => void | Promise<void> = () => {},
): Promise<Float32Array[]> {
  const longest = sequences.reduce((most, tokens) => Math.max(most, tokens.length), 1);
  using targets: DeviceBuffer = loaded.context.alloc(longest * 4);
  using nll: DeviceBuffer = loaded.context.alloc(longest * 4);
  const nlls: Float32Array[] = [];
  let scored = 0;
  for (const tokens of sequences) {
    // The last position predicts a token that is not there; a negative target is skipped.
    targets.upload(Int32Array.from([...tokens.slice(1), -1]));
    for (const { logits, first, rows } of loaded.runner.scorer.text(tokens, adapterSlot)) {
      loaded.context.tokenNll({
        logits,
        targets: targets.at(first * 4),
        nll: nll.at(first * 4),
        rows,
        vocab: loaded.config.vocabSize,
      });
      scored += rows;
      await progress(scored, nlls);
    }
    nlls.push(nll.download(new Float32Array(tokens.length - 1)));
    await progress(scored, nlls);
  }
  return nlls;
}

/**
 * @param beginning at least one token
 * @param branches continuations of `beginning`, each at least one token
 * @param adapterSlot LoRA slot of an adapter, or -1
 * @returns the nats of each branch's tokens, given `beginning` and the branch before them
 */
export function branchNlls(
  loaded: LoadedModel,
  beginning: readonly number[],
  branches: readonly (readonly number[])[],
  adapterSlot: number,
): Float32Array[] {
  const wanted = branches.flat();
  using targets: DeviceBuffer = loaded.context.alloc(SCORE_ROWS * 4);
  using nll: DeviceBuffer = loaded.context.alloc(wanted.length * 4);
  for (const { logits, first, rows } of loaded.runner.scorer.branches(beginning, branches, adapterSlot)) {
    targets.upload(Int32Array.from(wanted.slice(first, first + rows)));
    const vocab = loaded.config.vocabSize;
    loaded.context.tokenNll({ logits, targets: targets.at(0), nll: nll.at(first * 4), rows, vocab });
  }
  const values = nll.download(new Float32Array(wanted.length));
  let end = 0;
  return branches.map((branch) => {
    end += branch.length;
    return values.slice(end - branch.length, end);
  });
}
