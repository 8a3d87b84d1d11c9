/** About how long a row takes: to plan by, and stated nowhere else. */

/** Tokens a second of one thread of an AMD EPYC with AVX-512: rank 64 on every linear, no recomputation, 32 answers at a time. */
const RATES = {
  packed: { training: 100, validating: 300, scoring: 170, answering: 200 },
  full: { training: 105, validating: 310, scoring: 225, answering: 140 },
};
/** Of an arithmetic or GSM8K question. */
const PROMPT_TOKENS = 80;
/** Of a window. */
const WINDOW = 1024;
const WINDOWS = 40;

/**
 * @param {import("./matrix.mjs").Row} row
 * @returns {number} minutes of one core, where its base is there and no evaluation is reused
 */
export function minutesOf({ base, task }) {
  const rates = base.packed ? RATES.packed : RATES.full;
  const { evaluation, tokens } = task;
  const evaluating =
    evaluation.kind === "perplexity"
      ? (WINDOWS * WINDOW) / rates.scoring
      : (evaluation.questions * (PROMPT_TOKENS + evaluation.maxTokens)) / rates.answering;
  const training = tokens.training / rates.training + tokens.validation / rates.validating;
  return (2 * evaluating + training) / 60;
}
