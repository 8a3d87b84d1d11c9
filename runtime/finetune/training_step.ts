/** One optimizer step: gradients of the mean loss over several batches, their norm clipped, AdamW. */
import type { Context, DeviceBuffer } from "../../ffi/mod.ts";
import type { ModelTrainer, TokenBatch } from "../training/model_trainer.ts";
import type { LossSums } from "../training/objective.ts";
import type { ParameterGroup } from "../training/parameters.ts";

/** What torch.nn.utils.clip_grad_norm_ adds to the norm before it divides. */
const CLIP_EPSILON = 1e-6;

/** Weights that follow from what trains of them. */
export interface DerivedWeights {
  /** Computes them anew. */
  prepare(): void;
  /** Makes their gradients, which have added up, those of what trains. */
  backward(): void;
}

export interface StepOptions {
  readonly context: Context;
  readonly trainer: ModelTrainer;
  /** Everything that trains. */
  readonly groups: readonly ParameterGroup[];
  readonly derived?: DerivedWeights;
  /** Longest gradient over all groups that a step follows; 0: any. */
  readonly maxNorm: number;
}

/** Means over the tokens that have a target. */
export interface MeanLoss {
  /** What is minimised. */
  readonly loss: number;
  /** -log p(target): the same, without a teacher. */
  readonly nll: number;
  /** KL(teacher || student) at the objective's temperature; 0 without a teacher. */
  readonly kl: number;
  /** Tokens that have a target. */
  readonly tokens: number;
}

export interface StepResult extends MeanLoss {
  /** Of the gradient before it was clipped. */
  readonly norm: number;
}

/** The loss or the gradient is no finite number; nothing was updated. */
export class DivergedError extends Error {
  override readonly name = "DivergedError";

  constructor(what: "loss" | "gradient", value: number) {
    super(`the ${what} became ${value}; a lower --lr may help`);
  }
}

/** Lets signals and timers have their turn, and rejects when the run is to stop. */
export type Pause = () => Promise<void>;

function wantedTokens({ targets }: TokenBatch): number {
  return targets.reduce((count, target) => (target < 0 ? count : count + 1), 0);
}

/** The mean over several batches. */
export async function meanLoss(
  batches: Iterable<TokenBatch>,
  run: (batch: TokenBatch, index: number) => LossSums,
  pause: Pause,
): Promise<MeanLoss> {
  let [sum, nll, kl, tokens, index] = [0, 0, 0, 0, 0];
  for (const batch of batches) {
    const sums = run(batch, index++);
    sum += sums.sum;
    nll += sums.nll;
    kl += sums.kl;
    tokens += wantedTokens(batch);
    await pause();
  }
  return { loss: sum / tokens, nll: nll / tokens, kl: kl / tokens, tokens };
}

export class TrainingStep implements Disposable {
  readonly #options: StepOptions;
  /** float64 [1] */
  readonly #squares: DeviceBuffer;

  constructor(options: StepOptions) {
    this.#options = options;
    this.#squares = options.context.alloc(8);
  }

  /** The mean loss as it is now, without dropout. */
  loss(batches: Iterable<TokenBatch>, pause: Pause): Promise<MeanLoss> {
    const { trainer, derived } = this.#options;
    derived?.prepare();
    return meanLoss(batches, (batch) => trainer.loss(batch), pause);
  }

  /**
   * @param batches whose gradients add up; at least one token has a target
   * @param factor of the learning rates
   * @throws {DivergedError}, and what `pause` throws; then nothing was updated
   */
  async run(batches: readonly TokenBatch[], factor: number, pause: Pause): Promise<StepResult> {
    const { trainer, groups, maxNorm, derived } = this.#options;
    derived?.prepare();
    const wanted = batches.reduce((sum, batch) => sum + wantedTokens(batch), 0);
    const mean = await meanLoss(batches, (batch, i) => trainer.gradients(batch, 1 / wanted, i > 0), pause);
    if (!Number.isFinite(mean.loss)) throw new DivergedError("loss", mean.loss);
    derived?.backward();
    const norm = this.#norm();
    if (!Number.isFinite(norm)) throw new DivergedError("gradient", norm);
    const clip = maxNorm > 0 ? Math.min(1, maxNorm / (norm + CLIP_EPSILON)) : 1;
    for (const group of groups) group.step(factor, clip);
    return { ...mean, norm };
  }

  #norm(): number {
    this.#squares.upload(new Float64Array(1));
    for (const group of this.#options.groups) group.addSquares(this.#squares.at(0));
    return Math.sqrt(this.#squares.download(new Float64Array(1))[0]!);
  }

  [Symbol.dispose](): void {
    this.#squares[Symbol.dispose]();
  }
}
