/** What both sides of the comparison are told to do and what they answer. */
import type { Compute } from "../../../runtime/ops/matmul.ts";

/** Steps of AdamW on the LoRA of all linears, each on one sequence: `warmup` of them, then `steps` timed ones. */
export interface SpeedTask {
  /** The packed model, whose calibrated LoRA is where both sides start. */
  readonly packed: string;
  /** The same with its base in float32, the LoRA as an adapter in apiq_init. */
  readonly dense: string;
  readonly learningRate: number;
  /** Both sides get the same number. */
  readonly threads: number;
  readonly warmup: number;
  readonly steps: number;
  /** Run blocks again in the backward pass instead of keeping what that needs. */
  readonly recompute: boolean;
  /** How apiq multiplies; PyTorch does in float32. */
  readonly compute: Compute;
  /** Token ids [warmup + steps][length]. */
  readonly ids: readonly (readonly number[])[];
}

export interface SpeedAnswer {
  /** Of each timed step: forward, backward and AdamW. */
  readonly seconds: readonly number[];
  /** Of every step: both sides have to come out the same, or they did not do the same. */
  readonly losses: readonly number[];
  /** Resident at the most, the program itself counted. */
  readonly peakBytes: number;
  /** Versions and instruction set, as text. */
  readonly about: string;
}
