/**
 * The tasks of `eval tasks`: how a row becomes a prompt, what its right answer is, and what counts as the model's answer.
 *
 * arithmetic and commonsense are in the form of LLM-Adapters (arXiv 2304.01933), rows {instruction, input, output, answer}, with
 * the rules of its evaluation (https://github.com/AGI-Edgerunners/LLM-Adapters, evaluate.py and commonsense_evaluate.py):
 * - prompts are Alpaca's (https://github.com/tatsu-lab/stanford_alpaca); that program's own indentation of them is left out;
 * - a number is the last one in the response, commas removed, and right within 0.001 of the label;
 * - a letter (AQuA) is the first capital A to E in the response, wherever it stands;
 * - a choice is the first word of the label's family (true false, answer1..5, solution1..2, option1..2, ending1..4) there, in lower
 *   case as the labels are.
 * Answers here are greedy, there by four beams.
 *
 * gsm8k has rows {question, answer}. The right number follows "####" in the answer (Cobbe et al., arXiv 2110.14168), and so must
 * the model's, commas and dollar signs removed. Prompt and stop text are those of lm-evaluation-harness
 * (https://github.com/EleutherAI/lm-evaluation-harness, gsm8k.yaml), without its examples. Whether the last number of the response
 * is right is counted beside.
 */
import type { ChatMessage } from "../tokenizer/mod.ts";
import { badField, type DataRow, textField } from "./rows.ts";

export type TaskName = "gsm8k" | "arithmetic" | "commonsense";

export interface TaskPrompt {
  /** What the model continues. */
  readonly prompt: string;
  /** The same as a conversation, for models that want one. */
  readonly messages: readonly ChatMessage[];
}

export interface TaskItem extends TaskPrompt {
  /** FILE:LINE of its row. */
  readonly where: string;
  readonly label: string;
  judge(response: string): Judgement;
}

export interface Judgement {
  /** The model's answer, or null where there is none. */
  readonly prediction: string | null;
  readonly correct: boolean;
  /** gsm8k: the last number of the response is right, wherever it stands. */
  readonly lastNumberCorrect?: boolean;
}

export interface Task {
  /** Longest response unless the caller says otherwise, in tokens. */
  readonly maxTokens: number;
  /** Texts that end a response. */
  readonly stop: readonly string[];
  /** @throws Error naming file and line of a row that is not one of this task */
  item(row: DataRow): TaskItem;
}

/** Numbers at most so far apart are the same. */
const TOLERANCE = 1e-3;

export const TASKS: Readonly<Record<TaskName, Task>> = {
  gsm8k: { maxTokens: 256, stop: ["Question:"], item: gsm8kItem },
  arithmetic: { maxTokens: 256, stop: ["### Instruction:"], item: arithmeticItem },
  commonsense: { maxTokens: 32, stop: ["### Instruction:"], item: commonsenseItem },
};

function gsm8kItem(row: DataRow): TaskItem {
  const question = textField(row, "question");
  const label = numberAfterMark(textField(row, "answer"));
  if (label === null) badField(row, "answer", "a number after ####");
  return {
    where: row.where,
    ...gsm8kPrompt(question),
    label: `${label}`,
    judge(response) {
      const prediction = numberAfterMark(response);
      const last = lastNumber(response);
      return {
        prediction: prediction === null ? null : `${prediction}`,
        correct: isNear(prediction, label),
        lastNumberCorrect: isNear(last, label),
      };
    },
  };
}

function arithmeticItem(row: DataRow): TaskItem {
  const label = textField(row, "answer").trim();
  const number = Number(label.replaceAll(",", ""));
  const isLetter = /^[A-E]$/.test(label);
  if (!isLetter && (label === "" || !Number.isFinite(number))) badField(row, "answer", "a number or a letter A to E");
  return instructionItem(row, label, (response) => {
    if (isLetter) {
      const prediction = firstLetter(response);
      return { prediction, correct: prediction === label };
    }
    const prediction = lastNumber(response);
    return { prediction: prediction === null ? null : `${prediction}`, correct: isNear(prediction, number) };
  });
}

function commonsenseItem(row: DataRow): TaskItem {
  const label = textField(row, "answer");
  const family = CHOICE_FAMILIES.find((words) => words.includes(label));
  if (!family) badField(row, "answer", `one of ${CHOICE_FAMILIES.flat().join(", ")}`);
  return instructionItem(row, label, (response) => {
    const prediction = firstChoice(response, family);
    return { prediction, correct: prediction === label };
  });
}

function instructionItem(row: DataRow, label: string, judge: TaskItem["judge"]): TaskItem {
  const instruction = textField(row, "instruction");
  const { input } = row.fields;
  const context = typeof input === "string" ? input : "";
  return {
    where: row.where,
    ...instructionPrompt(instruction, context),
    label,
    judge,
  };
}

/** Of gsm8k, and what else has rows {question, answer}: the answer follows after a space. */
export function gsm8kPrompt(question: string): TaskPrompt {
  return { prompt: `Question: ${question}\nAnswer:`, messages: [{ role: "user", content: question }] };
}

/** @param input a text that belongs to the instruction, or "" */
export function instructionPrompt(instruction: string, input: string): TaskPrompt {
  const content = input === "" ? instruction : `${instruction}\n\n${input}`;
  return { prompt: alpacaPrompt(instruction, input), messages: [{ role: "user", content }] };
}

export function alpacaPrompt(instruction: string, input: string): string {
  const paired = input === "" ? "" : ", paired with an input that provides further context";
  const context = input === "" ? "" : `### Input:\n${input}\n\n`;
  return (
    `Below is an instruction that describes a task${paired}. Write a response that appropriately completes the request.\n\n` +
    `### Instruction:\n${instruction}\n\n${context}### Response:\n`
  );
}

const family = (word: string, count: number) => Array.from({ length: count }, (_, i) => `${word}${i + 1}`);
const CHOICE_FAMILIES: readonly (readonly string[])[] = [
  ["true", "false"],
  family("answer", 5),
  family("solution", 2),
  family("option", 2),
  family("ending", 4),
];

/** The last number of a text, without its commas. */
export function lastNumber(text: string): number | null {
  const last = text
    .replaceAll(",", "")
    .match(/-?\d+\.?\d*/g)
    ?.at(-1);
  return last === undefined ? null : Number(last);
}

/** The number after the first "####" that a number follows. */
export function numberAfterMark(text: string): number | null {
  const digits = /####\s*\$?(-?)\$?([\d,]*\.?\d+)/.exec(text);
  return digits === null ? null : Number(`${digits[1]}${digits[2].replaceAll(",", "")}`);
}

export function firstLetter(text: string): string | null {
  return /[A-E]/.exec(text)?.[0] ?? null;
}

/** The word of `words` that comes first in a text. */
export function firstChoice(text: string, words: readonly string[]): string | null {
  return new RegExp(words.join("|")).exec(text)?.[0] ?? null;
}

function isNear(value: number | null, label: number): boolean {
  return value !== null && Math.abs(value - label) <= TOLERANCE;
}
