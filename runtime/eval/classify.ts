/** Multiple choice by likelihood: the model chooses the option it finds likeliest after the text. */
import type { LoadedModel } from "../engine/loaded_model.ts";
import type { Tokenizer } from "../tokenizer/mod.ts";
import { branchNlls } from "./nll.ts";
import { badField, type DataRow, textField } from "./rows.ts";

export interface ClassifyItem {
  readonly where: string;
  readonly text: string;
  /** At least two. One space goes between text and choice, unless the text ends or the choice begins with white space. */
  readonly choices: readonly string[];
  /** Index of the right one. */
  readonly label: number;
}

/** The tokens that all choices have in common, and what each has of its own. */
export interface EncodedItem {
  readonly beginning: readonly number[];
  readonly branches: readonly (readonly number[])[];
}

export interface Choice {
  /** Log-likelihood of each choice after the text, in nats. */
  readonly logLikelihoods: readonly number[];
  /** The choice of the highest log-likelihood. */
  readonly plain: number;
  /** The choice of the highest log-likelihood per character. */
  readonly normalized: number;
}

/**
 * A row {text, choices, label}: label is the index of the right choice or its text.
 * @throws Error naming file and line
 */
export function classifyItem(row: DataRow): ClassifyItem {
  const { choices, label } = row.fields;
  const text = textField(row, "text");
  if (
    !Array.isArray(choices) ||
    choices.length < 2 ||
    choices.some((one) => typeof one !== "string" || one.trim() === "")
  ) {
    badField(row, "choices", "at least two texts");
  }
  const index = typeof label === "string" ? choices.indexOf(label) : Number(label);
  if (
    typeof label === "boolean" ||
    label === null ||
    !(Number.isInteger(index) && index >= 0 && index < choices.length)
  ) {
    badField(row, "label", `a choice or its index, 0 to ${choices.length - 1}`);
  }
  return { where: row.where, text, choices, label: index };
}

/**
 * Each choice is encoded together with the text, since tokens may span the seam; the tokens that all of them share with the text
 * alone are the common part. White space at the seam belongs to the choice.
 * @throws Error naming file and line when nothing is left to begin with or to score
 */
export function encodeItem(tokenizer: Tokenizer, item: ClassifyItem): EncodedItem {
  const whole = item.choices.map((choice) => {
    const seam = /\s$/.test(item.text) || /^\s/.test(choice) ? "" : " ";
    return tokenizer.encode(item.text + seam + choice);
  });
  const text = tokenizer.encode(item.text.trimEnd());
  let common = 0;
  while (common < text.length && whole.every((tokens) => tokens[common] === text[common])) common++;
  const branches = whole.map((tokens) => tokens.slice(common));
  if (common === 0 || branches.some((branch) => branch.length === 0)) {
    throw new Error(
      `Cannot use ${item.where}: text and choices do not begin with the same tokens, or a choice has none`,
    );
  }
  return { beginning: whole[0].slice(0, common), branches };
}

/**
 * The rules are those of acc and acc_norm in lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness): the sum
 * of the option's token log-likelihoods, and that sum over its number of characters (white space around it not counted). The first
 * of equals wins.
 *
 * @param adapterSlot LoRA slot of an adapter, or -1
 */
export function choose(
  loaded: LoadedModel,
  item: ClassifyItem,
  { beginning, branches }: EncodedItem,
  adapterSlot: number,
): Choice {
  const nlls = branchNlls(loaded, beginning, branches, adapterSlot);
  const logLikelihoods = nlls.map((nll) => -nll.reduce((sum, nats) => sum + nats, 0));
  const perCharacter = logLikelihoods.map((value, i) => value / [...item.choices[i].trim()].length);
  return { logLikelihoods, plain: largest(logLikelihoods), normalized: largest(perCharacter) };
}

function largest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}
