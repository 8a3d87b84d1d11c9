/** Negative log-likelihood of given token sequences: what every comparison of models rests on. */
import type { DeviceBuffer } from "../../ffi/mod.ts";
import type { LoadedModel } from "../engine/loaded_model.ts";

/**
 * @param sequences token ids, each at least 2 and at most the model's context long
 * @param adapterSlot LoRA slot of an adapter, or -1
 * @param progress called with the number of finished sequences, and awaited; what it throws ends the run
 * @returns for each sequence the nats of its tokens from the second on, each given all tokens before it
 */
export async function sequenceNlls(
  loaded: LoadedModel,
  sequences: readonly (readonly number[])[],
  adapterSlot: number,
  progress: (done: number) => void | Promise<void> = () => {},
): Promise<Float32Array[]> {
  const longest = Math.max(1, ...sequences.map((tokens) => tokens.length));
  using targets: DeviceBuffer = loaded.context.alloc(longest * 4);
  using nll: DeviceBuffer = loaded.context.alloc(longest * 4);
  const nlls: Float32Array[] = [];
  for (const tokens of sequences) {
    // The last position predicts a token that is not there; a negative target is skipped.
    targets.upload(Int32Array.from([...tokens.slice(1), -1]));
    loaded.runner.scoreText(tokens, adapterSlot, (logits, first, rows) => {
      loaded.context.tokenNll({
        logits,
        targets: targets.at(first * 4),
        nll: nll.at(first * 4),
        rows,
        vocab: loaded.config.vocabSize,
      });
    });
    nlls.push(nll.download(new Float32Array(tokens.length - 1)));
    await progress(nlls.length);
  }
  return nlls;
}
