/** What finetuning reads: a file of texts, questions or conversations becomes a list of token sequences. */
import type { Tokenizer } from "../../tokenizer/mod.ts";

/** A tokenised example. */
export interface Example {
  readonly ids: Int32Array;
  /** Of each of `ids`, 1 where the loss wants it predicted from those before it. The first never is. */
  readonly wanted: Uint8Array;
  /** FILE:LINE of its row; of a text in blocks, FILE and which block. */
  readonly where: string;
  /** Its end was cut off. */
  readonly cut?: true;
}

/**
 * How a file is read:
 * - chat: rows {messages: [{role, content}, ...]}, also with {tools}; rendered through the model's chat template
 * - instruction: rows {instruction, output}, also with {input}
 * - gsm8k: rows {question, answer}
 * - text: rows {text}, each a document; or a file that is no JSON, one stream of tokens. Both are cut into blocks of `maxLength`
 *
 * Rows are JSON objects, one on each line or all in one array.
 */
export const DATASET_FORMATS = ["chat", "instruction", "gsm8k", "text"] as const;
export type DatasetFormat = (typeof DATASET_FORMATS)[number];

export interface DatasetOptions {
  readonly file: string;
  /** "auto" goes by the first row that is a JSON object. */
  readonly format: DatasetFormat | "auto";
  readonly tokenizer: Tokenizer;
  /** Ids of the model, of which the tokenizer may have no more; unchecked without. */
  readonly vocabSize?: number;
  /** Of an example, in tokens. */
  readonly maxLength: number;
  /** Whether the loss wants prompts too. Of texts it always wants everything. */
  readonly promptLoss: boolean;
  /** Whether a row that cannot be used is listed and left out, or ends the reading. */
  readonly onBadRow: "skip" | "fail";
  /** What becomes of an example that is too long: its end is cut off, or it is left out. */
  readonly tooLong: "truncate" | "drop";
  /**
   * What instruction and gsm8k rows are asked in: "task", the prompt that `apiq eval tasks` uses (runtime/eval/tasks.ts), or "chat",
   * the model's chat template, as there with --chat.
   */
  readonly template: "task" | "chat";
  /** Called from time to time with the number of rows (of a plain text: blocks) that were read. */
  readonly progress?: (rows: number) => void;
}

export interface SkippedRow {
  /** FILE:LINE */
  readonly where: string;
  /** The row is named here too. */
  readonly reason: string;
}

export interface Dataset {
  readonly file: string;
  readonly format: DatasetFormat;
  /** In the order of the file. */
  readonly examples: readonly Example[];
  /** Rows that cannot be used. */
  readonly skipped: readonly SkippedRow[];
  /** Examples whose end was cut off. */
  readonly truncated: number;
  /** Too long examples that were left out: all of them, or those in which nothing wanted was left. */
  readonly dropped: number;
  /** SHA-256 of all examples that were read, in order: ids as little-endian int32, then `wanted`. */
  readonly sha256: string;
}
