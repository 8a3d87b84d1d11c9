/** What is never trained on: the prompts that the model is judged by, and a part of all conversations, chosen by hash. */
import { createHash } from "node:crypto";
import type { ChatMessage } from "../../../runtime/tokenizer/mod.ts";
import { normalized } from "./filters.ts";

/** The prompts of ../shared/golden/smollm2.json. */
export const JUDGED_PROMPTS: readonly string[] = [
  "What is the capital of France?",
  "Write a haiku about the sea.",
  "List three prime numbers.",
  "Explain photosynthesis to a child.",
];

/** Which part of all messages of users is held out. */
const SHARE = 1 / 10;

/** Whether a text holds one of the judged prompts, in whatever case and with whatever marks. */
export function holdsJudgedPrompt(text: string): boolean {
  const words = ` ${normalized(text)} `;
  return JUDGED_PROMPTS.some((prompt) => words.includes(` ${normalized(prompt)} `));
}

/** Uniform from 0 to 1: the beginning of the SHA-256 of the normalized text, so it does not depend on what else there is. */
export function hashPlace(text: string): number {
  return createHash("sha256").update(normalized(text)).digest().readUInt32BE(0) / 2 ** 32;
}

/** Whether a message of a user belongs to the held-out part: then no conversation with it is trained on. */
export function isHeldOut(text: string): boolean {
  return hashPlace(text) < SHARE;
}

export interface Chat {
  readonly messages: readonly ChatMessage[];
}

export interface SplitChats<T> {
  /** No message of a user in them is held out, none is one of a user in `heldOut`, and nothing in them holds a judged prompt. */
  readonly training: readonly T[];
  /** Those with a held-out message that come first by its hash; in no other order. */
  readonly heldOut: readonly T[];
}

/** @param limit of held-out chats; those beyond it are in neither part */
export function splitChats<T extends Chat>(chats: readonly T[], limit: number): SplitChats<T> {
  const allowed = chats.filter(({ messages }) => !messages.some(({ content }) => holdsJudgedPrompt(String(content))));
  const placed = allowed.map((chat) => ({ chat, place: Math.min(...userTexts(chat).map(hashPlace)) }));
  const heldOut = placed.filter(({ place }) => place < SHARE).sort((a, b) => a.place - b.place);
  const judgedBy = heldOut.slice(0, limit).map(({ chat }) => chat);
  // A held-out chat has messages whose own hash does not hold them out.
  const known = new Set(judgedBy.flatMap(userTexts).map(normalized));
  const isAllowed = ({ messages }: Chat): boolean =>
    !messages.some(({ content }) => known.has(normalized(`${content}`)));
  return {
    training: allowed.filter((chat) => !userTexts(chat).some(isHeldOut) && isAllowed(chat)),
    heldOut: judgedBy,
  };
}

function userTexts({ messages }: Chat): string[] {
  return messages.filter(({ role }) => role === "user").map(({ content }) => String(content));
}
