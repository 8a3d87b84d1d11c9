/** What a run tells about itself: the lines of train.jsonl. */

export interface StepRecord {
  readonly type: "step";
  /** Steps made, this one counted. */
  readonly step: number;
  /** From 1 on. */
  readonly epoch: number;
  /** Mean over the tokens that the loss wants: what is minimised. */
  readonly loss: number;
  /** Distillation only: of that the cross-entropy with the data, and the divergence from the teacher. */
  readonly nll?: number;
  readonly kl?: number;
  /** Of the gradient before it was clipped. */
  readonly norm: number;
  readonly learningRate: number;
  /** That the loss wants. */
  readonly tokens: number;
  /** Of all tokens that went through the model; padding is not counted. */
  readonly tokensPerSecond: number;
  readonly seconds: number;
  /** The most memory the process has held so far. */
  readonly peakBytes: number;
}

export interface EvalRecord {
  readonly type: "eval";
  /** Steps made before. */
  readonly step: number;
  /** Mean over the validation tokens that the loss wants. */
  readonly loss: number;
  readonly nll?: number;
  readonly kl?: number;
  /** exp of the cross-entropy with the data */
  readonly perplexity: number;
  readonly tokens: number;
  readonly seconds: number;
}

export type LogRecord = StepRecord | EvalRecord;
