/** Files of examples, read row by row. */
import { createHash } from "node:crypto";
import { type BadRow, badField, type DataRow, scanRows, textField } from "../../eval/rows.ts";
import { gsm8kPrompt, instructionPrompt, type TaskPrompt } from "../../eval/tasks.ts";
import type { ChatMessage, Tokenizer } from "../../tokenizer/mod.ts";
import { type AnsweredTokens, chatTokens, promptTokens } from "./answered_tokens.ts";
import type { Dataset, DatasetFormat, DatasetOptions, Example, SkippedRow } from "./example.ts";
import { formatOf, isPlainText, refuseRow } from "./format.ts";
import { cutIntoBlocks, encodeText } from "./text_blocks.ts";

/** Rows between two calls of `progress`. */
const PROGRESS_ROWS = 64;

/**
 * Reads all examples of a file.
 *
 * @throws Error naming the file where it cannot be read or gives no example; with `onBadRow` "fail" also file and line of a row that
 *   cannot be used
 */
export function readDataset(options: DatasetOptions): Dataset {
  const reading = new Reading(options);
  if (isPlainText(options.file, options.format)) reading.addText();
  else for (const row of scanRows(options.file)) reading.addRow(row);
  return reading.finish();
}

class Reading {
  readonly #options: DatasetOptions;
  readonly #examples: Example[] = [];
  readonly #skipped: SkippedRow[] = [];
  #format: DatasetFormat | null;
  #rows = 0;
  #dropped = 0;

  constructor(options: DatasetOptions) {
    this.#options = options;
    this.#format = options.format === "auto" ? null : options.format;
  }

  addText(): void {
    const { file, tokenizer, maxLength } = this.#options;
    this.#format = "text";
    let count = 0;
    for (const ids of cutIntoBlocks(encodeText(tokenizer, file), maxLength)) {
      this.#addText(ids, `${file}, block ${++count}`);
      this.#options.progress?.(count);
    }
  }

  addRow(row: DataRow | BadRow): void {
    if (++this.#rows % PROGRESS_ROWS === 0) this.#options.progress?.(this.#rows);
    try {
      if ("error" in row) throw row.error;
      this.#addExample(row);
    } catch (error) {
      if (this.#options.onBadRow === "fail") throw error;
      this.#skipped.push({ where: row.where, reason: error instanceof Error ? error.message : String(error) });
    }
  }

  finish(): Dataset {
    const { file } = this.#options;
    if (this.#format === null || this.#examples.length === 0) throw this.#noExamples();
    const hash = createHash("sha256");
    for (const { ids, wanted } of this.#examples) hash.update(bytesOf(ids)).update(wanted);
    return {
      file,
      format: this.#format,
      examples: this.#examples,
      skipped: this.#skipped,
      truncated: this.#examples.filter(({ cut }) => cut).length,
      dropped: this.#dropped,
      sha256: hash.digest("hex"),
    };
  }

  #noExamples(): Error {
    const { file, maxLength } = this.#options;
    const [first] = this.#skipped;
    if (first !== undefined) {
      return new Error(
        `Cannot train on ${file}: none of its ${this.#rows} rows can be used; the first: ${first.reason}`,
      );
    }
    if (this.#dropped > 0) {
      return new Error(`Cannot train on ${file}: all ${this.#dropped} examples are longer than ${maxLength} tokens`);
    }
    return new Error(`Cannot train on ${file}: received no text, expected at least one example`);
  }

  #addExample(row: DataRow): void {
    const format = this.#format ?? formatOf(row);
    if (formatOf(row) !== format) refuseRow(row, format);
    this.#format = format;
    if (format === "text") this.#addDocument(row);
    else this.#add(answeredTokens(row, format, this.#options), row.where);
  }

  #addDocument(row: DataRow): void {
    const { tokenizer, maxLength } = this.#options;
    const ids = tokenizer.encode(textField(row, "text"));
    if (tokenizer.endToken !== undefined && ids.at(-1) !== tokenizer.endToken) ids.push(tokenizer.endToken);
    const blocks = [...cutIntoBlocks([ids], maxLength)];
    for (const [index, block] of blocks.entries()) {
      this.#addText(block, blocks.length === 1 ? row.where : `${row.where}, block ${index + 1}`);
    }
  }

  #addText(ids: readonly number[], where: string): void {
    this.#add({ ids, answers: [{ start: 0, end: ids.length }] }, where);
  }

  /** @throws where the tokenizer is not the model's */
  #add({ ids, answers }: AnsweredTokens, where: string): void {
    const { maxLength, promptLoss, tooLong, vocabSize } = this.#options;
    const wanted = new Uint8Array(ids.length);
    if (promptLoss) wanted.fill(1);
    else for (const { start, end } of answers) wanted.fill(1, start, end);
    // Nothing stands before the first token that could predict it; nothing is learned from what follows the last wanted one.
    wanted[0] = 0;
    const length = wanted.lastIndexOf(1) + 1;
    const kept = length <= maxLength ? length : wanted.lastIndexOf(1, maxLength - 1) + 1;
    if (length === 0)
      throw new Error(`Cannot use ${where}: it has ${ids.length} tokens, and none that could be predicted`);
    if (kept === 0 || (kept < length && tooLong === "drop")) {
      this.#dropped++;
      return;
    }
    const outside = vocabSize === undefined ? undefined : ids.find((id) => id >= vocabSize);
    if (outside !== undefined) {
      throw new Error(
        `Cannot use ${where}: the tokenizer gave token ${outside}, expected ids below ${vocabSize} (the model's vocabulary)`,
      );
    }
    const example = { ids: Int32Array.from(ids.slice(0, kept)), wanted: wanted.slice(0, kept), where };
    this.#examples.push(kept < length ? { ...example, cut: true } : example);
  }
}

function answeredTokens(
  row: DataRow,
  format: Exclude<DatasetFormat, "text">,
  { tokenizer, template }: { readonly tokenizer: Tokenizer; readonly template: "task" | "chat" },
): AnsweredTokens {
  if (format === "chat") return chatTokens(tokenizer, row.fields.messages, row.fields.tools, row.where);
  const { prompt, messages, separator, answer } = question(row, format);
  if (template === "task") return promptTokens(tokenizer, prompt, separator + answer);
  const chat: ChatMessage[] = [...messages, { role: "assistant", content: answer }];
  return chatTokens(tokenizer, chat, undefined, row.where);
}

interface Question extends TaskPrompt {
  /** Between prompt and answer. */
  readonly separator: string;
  readonly answer: string;
}

function question(row: DataRow, format: "instruction" | "gsm8k"): Question {
  if (format === "gsm8k") {
    return { ...gsm8kPrompt(textField(row, "question")), separator: " ", answer: textField(row, "answer") };
  }
  const input = row.fields.input ?? "";
  if (typeof input !== "string") badField(row, "input", "a text or nothing");
  return {
    ...instructionPrompt(textField(row, "instruction"), input),
    separator: "",
    answer: textField(row, "output"),
  };
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
