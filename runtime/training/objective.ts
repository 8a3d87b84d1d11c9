/** What training minimises, and what a batch brings for it. */

/** Cross-entropy: -log p(target), summed over the rows that have a target. */
export interface FineTuning {
  readonly kind: "sft";
}

/**
 * Knowledge distillation (Hinton et al., arXiv 1503.02531) from the teacher's most likely tokens. Of each row that has a target,
 *
 *   (1 - mix) T^2 KL(p || q) + mix (-log q1(target))
 *
 * with p the teacher's and q the student's distribution at temperature T, q1 the student's at temperature 1. All tokens but the
 * teacher's topK count as one in the divergence; topK = vocabulary size makes it exact.
 */
export interface Distillation {
  readonly kind: "distill";
  /** Above 0. */
  readonly temperature: number;
  /** In 0 .. 1. */
  readonly mix: number;
  readonly topK: number;
}

export type Objective = FineTuning | Distillation;

export const FINE_TUNING: FineTuning = { kind: "sft" };

/** A teacher's most likely tokens of each row, the most likely first. */
export interface TeacherTokens {
  /** int32 [rows, topK]; rows without a target are not read. */
  readonly ids: Int32Array;
  /** float32 [rows, topK], log p(token) at the objective's temperature. */
  readonly logProbabilities: Float32Array;
}

/** What the rows of a batch are to predict. */
export interface RowTargets {
  /** int32 [rows], each row's next token; negative: the row has no part in the loss. */
  readonly targets: Int32Array;
  /** For distillation. */
  readonly teacher?: TeacherTokens;
}

/** Sums over the rows that have a target. */
export interface LossSums {
  /** What the objective minimises. */
  readonly sum: number;
  /** -log p(target) */
  readonly nll: number;
  /** KL(teacher || student) at the objective's temperature, without the factor T^2; 0 without a teacher. */
  readonly kl: number;
}

/** Fails for settings that make no sense. */
export function checkObjective(objective: Objective, vocabSize: number): void {
  if (objective.kind === "sft") return;
  const { temperature, mix, topK } = objective;
  const fail = (name: string, value: number, expected: string): never => {
    throw new Error(`Cannot distil: ${name}: received ${value}, expected ${expected}`);
  };
  if (!(Number.isFinite(temperature) && temperature > 0)) fail("temperature", temperature, "a number above 0");
  if (!(mix >= 0 && mix <= 1)) fail("mix", mix, "a number from 0 to 1");
  if (!(Number.isInteger(topK) && topK >= 1 && topK <= vocabSize)) {
    fail("topK", topK, `a whole number from 1 to ${vocabSize}, the size of the vocabulary`);
  }
}

/** In ascending order. */
export function rowsWithTarget(targets: Int32Array): readonly number[] {
  return [...targets.keys()].filter((row) => targets[row] >= 0);
}
