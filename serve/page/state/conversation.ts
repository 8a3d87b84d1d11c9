/** A conversation as it is kept, and what a request makes of it. */
import type { ChatRequest } from "../api/chat.ts";
import type { Trouble } from "../api/trouble.ts";
import type { Sampling } from "./sampling.ts";

export interface AnswerStats {
  /** Counted by the server; of an answer that was stopped, the pieces that had arrived. */
  readonly tokens: number;
  readonly promptTokens?: number;
  readonly cachedTokens?: number;
  /** From sending the request to the first text, in milliseconds. */
  readonly firstTokenMs?: number;
  /** After the first; undefined for a single token. */
  readonly tokensPerSecond?: number;
}

export interface UserMessage {
  readonly id: string;
  readonly role: "user";
  readonly content: string;
}

export interface AssistantMessage {
  readonly id: string;
  readonly role: "assistant";
  readonly content: string;
  readonly model: string;
  /** How it ended: by itself, at the token limit, by the reader, by an error (`trouble`). */
  readonly end: "stop" | "length" | "stopped" | "failed";
  readonly stats?: AnswerStats;
  readonly trouble?: Trouble;
}

export type Message = UserMessage | AssistantMessage;

export interface Conversation {
  readonly id: string;
  readonly title: string;
  /** Milliseconds since 1970. */
  readonly created: number;
  readonly updated: number;
  /** Empty: the base, whatever its name. */
  readonly model: string;
  readonly system: string;
  readonly sampling: Sampling;
  readonly messages: readonly Message[];
}

const TITLE_LENGTH = 60;

/** The first words of the first message. */
export function titleOf(messages: readonly Message[]): string {
  const text = messages[0]?.content.replace(/\s+/g, " ").trim() ?? "";
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH).trimEnd()}…` : text;
}

/**
 * Answers without text are left out, and neighbours of one role become one message: chat templates want the roles to
 * alternate.
 */
export function requestMessages({
  system,
  messages,
}: Pick<Conversation, "system" | "messages">): ChatRequest["messages"] {
  const said: ChatRequest["messages"][number][] = [];
  if (system.trim() !== "") said.push({ role: "system", content: system });
  for (const { role, content } of messages) {
    if (content === "") continue;
    const last = said.at(-1);
    if (last?.role === role) said[said.length - 1] = { role, content: `${last.content}\n\n${content}` };
    else said.push({ role, content });
  }
  return said;
}
