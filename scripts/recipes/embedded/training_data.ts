/** What the embedded model is calibrated and trained on, and that nothing in it is what it will be judged by. */
import { readFileSync } from "node:fs";
import { readRows } from "../../../runtime/eval/rows.ts";
import { readText } from "../../../runtime/eval/text_file.ts";
import { writeText } from "../../../runtime/formats/atomic.ts";
import type { Tokenizer } from "../../../runtime/tokenizer/mod.ts";
import { normalized } from "../self_chats/filters.ts";
import { type Chat, hashPlace, holdsJudgedPrompt, isHeldOut } from "../self_chats/held_out.ts";

/** Chats to watch training by: those with a message between the held-out part's end and here (held_out.ts). */
const VALIDATION_END = 0.115;

export function readChats(file: string): readonly Chat[] {
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Chat);
}

export function userTexts({ messages }: Chat): readonly string[] {
  return messages.filter(({ role }) => role === "user").map(({ content }) => String(content));
}

/** @param chats that may be trained on; of few, none of which falls in the part that is watched, the first by its hash is */
export function splitForValidation(chats: readonly Chat[]): Record<"training" | "validation", readonly Chat[]> {
  const place = (chat: Chat): number => Math.min(...userTexts(chat).map(hashPlace));
  const first = chats.map(place).reduce((least, each) => Math.min(least, each), Number.POSITIVE_INFINITY);
  const watches = (chat: Chat): boolean => place(chat) < VALIDATION_END || place(chat) === first;
  return { training: chats.filter((chat) => !watches(chat)), validation: chats.filter(watches) };
}

export function writeRows(file: string, rows: readonly object[]): Promise<void> {
  return writeText(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
}

/**
 * Rows {text} for `apiq quantize`: chats as the template renders them, and between them pieces of a text with about as many
 * characters, so that windows of both come in turn.
 */
export function calibrationRows(tokenizer: Tokenizer, chats: readonly Chat[], text: string): readonly object[] {
  const lines = text.split("\n");
  const rows: object[] = [];
  let next = 0;
  for (const { messages } of chats) {
    const chat = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: false });
    let piece = "";
    while (piece.length < chat.length && next < lines.length) piece += `${lines[next++]}\n`;
    rows.push({ text: chat }, ...(piece.trim() === "" ? [] : [{ text: piece }]));
  }
  return rows;
}

export interface TrainingFiles {
  /** Rows {messages}. */
  readonly chats: readonly string[];
  /** Other rows. */
  readonly rows: readonly string[];
  readonly texts: readonly string[];
}

/**
 * @param heldOut chats that the model is judged by
 * @throws where a file holds a judged prompt, a message of the held-out part by its hash, or one of `heldOut`
 */
export function checkTrainingData({ chats, rows, texts }: TrainingFiles, heldOut: readonly Chat[]): void {
  const judged = new Set(heldOut.flatMap(userTexts).map(normalized));
  const refuse = (where: string, what: string): never => {
    throw new Error(`Cannot train on ${where}: it holds ${what}, which the model is judged by`);
  };
  for (const file of chats) {
    for (const chat of readChats(file)) {
      const found = userTexts(chat).find((text) => isHeldOut(text) || judged.has(normalized(text)));
      if (found !== undefined) refuse(file, `the held-out message ${JSON.stringify(found)}`);
    }
  }
  for (const file of [...chats, ...rows]) {
    for (const { fields, where } of readRows(file)) {
      for (const text of stringsIn(fields)) {
        if (holdsJudgedPrompt(text)) refuse(where, "a judged prompt");
        if (judged.has(normalized(text))) refuse(where, `the held-out message ${JSON.stringify(text)}`);
      }
    }
  }
  for (const file of texts) if (holdsJudgedPrompt(readText(file))) refuse(file, "a judged prompt");
}

/** All texts in a JSON value, however deep. */
function stringsIn(value: unknown): readonly string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(stringsIn) : [];
}
