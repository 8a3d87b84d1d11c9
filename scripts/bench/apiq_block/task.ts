/** What both sides of the comparison are told to do and what they answer. */

/** One block of ApiQ-bw, cut short: `warmup` steps, then `steps` timed ones, each on a sample of its own. */
export interface BlockTask {
  /** Hugging Face folder of a Llama in 16 or 32 bits. */
  readonly model: string;
  readonly layer: number;
  readonly bits: 2 | 3 | 4;
  readonly group: 32 | 64 | 128;
  readonly rank: number;
  readonly alpha: number;
  readonly loraLearningRate: number;
  readonly clippingLearningRate: number;
  readonly weightDecay: number;
  readonly augLoss: boolean;
  /** 0 is not all of them here: both sides get the same number. */
  readonly threads: number;
  readonly warmup: number;
  readonly steps: number;
  /** Token ids [warmup + steps][length]. */
  readonly ids: readonly (readonly number[])[];
}

export interface BlockAnswer {
  /** Medians. A step is forward, backward and AdamW on one sample; a forward is the block in full precision. */
  readonly secondsPerStep: number;
  readonly secondsPerForward: number;
  /** Mean over all steps: both sides have to come out close to each other, or they did not do the same. */
  readonly loss: number;
  /** Versions and instruction set, as text. */
  readonly about: string;
}

/** The budget that a whole block's time is told for. */
export interface Budget {
  readonly samples: number;
  readonly epochs: number;
}

/**
 * Steps, and the passes over all samples that surround them: full-precision targets on both streams (one without the augmented
 * loss), and the finished block's output.
 */
export function secondsPerBlock(answer: BlockAnswer, { samples, epochs }: Budget, augLoss: boolean): number {
  return samples * (epochs * answer.secondsPerStep + (augLoss ? 3 : 2) * answer.secondsPerForward);
}
