/** The loss curves of one block, gathered from what its method reports. */
import type { LossCurve } from "./block_file.ts";
import { lossFailure } from "./failures.ts";
import type { MethodEvent } from "./method.ts";

export class LossRecorder {
  /** By part, in order of appearance: the last reported mean of each epoch. */
  readonly #parts = new Map<string | null, Map<number, number>>();

  /** @throws for a loss that is no finite number */
  add({ part, epoch, step, loss }: MethodEvent): void {
    if (loss === null) return;
    if (!Number.isFinite(loss)) throw lossFailure(loss, part, epoch, step);
    const epochs = this.#parts.get(part) ?? new Map<number, number>();
    this.#parts.set(part, epochs.set(epoch, loss));
  }

  curves(): LossCurve[] {
    return [...this.#parts].map(([part, epochs]) => ({
      part,
      losses: [...epochs].sort(([a], [b]) => a - b).map(([, loss]) => loss),
    }));
  }
}
