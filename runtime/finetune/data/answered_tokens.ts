/** Token sequences in which some tokens are answers: what is asked, and what the model should say to it. */
import { type ChatMessage, isChatMessage, type Tokenizer } from "../../tokenizer/mod.ts";

/** Tokens start .. end - 1. */
export interface TokenRange {
  readonly start: number;
  readonly end: number;
}

export interface AnsweredTokens {
  readonly ids: readonly number[];
  /** In order, without overlap. With each answer goes the token that ends it. */
  readonly answers: readonly TokenRange[];
}

/**
 * A prompt, `answer` behind it, and the token that ends a text. Where the answer's first characters would join the prompt's last
 * token, the two are encoded apart: the prompt's tokens are those that the model is asked with.
 */
export function promptTokens(tokenizer: Tokenizer, prompt: string, answer: string): AnsweredTokens {
  const asked = tokenizer.encode(prompt);
  const whole = tokenizer.encode(prompt + answer);
  const ids = isPrefix(asked, whole) ? whole : [...asked, ...tokenizer.encode(answer, { addSpecialTokens: false })];
  if (tokenizer.endToken !== undefined && ids.at(-1) !== tokenizer.endToken) ids.push(tokenizer.endToken);
  return { ids, answers: [{ start: asked.length, end: ids.length }] };
}

/**
 * A conversation in the model's chat template; answers are the assistant's turns, each up to the token that ends it. Where a turn
 * begins and ends is found by rendering the messages before it alone, as they are when the model is asked: their tokens have to be
 * the first ones of the whole conversation.
 *
 * @param tools passed to the template where it is a list
 * @throws Error naming `where` when these are no messages, none is the assistant's, or the template renders them so that a turn's
 *   tokens cannot be told
 */
export function chatTokens(tokenizer: Tokenizer, messages: unknown, tools: unknown, where: string): AnsweredTokens {
  checkMessages(messages, where);
  const given = Array.isArray(tools) ? { tools } : {};
  const render = (count: number, addGenerationPrompt: boolean): number[] =>
    attempt(where, () => tokenizer.encodeChat(messages.slice(0, count), { ...given, addGenerationPrompt }));
  const ids = render(messages.length, false);
  const answers: TokenRange[] = [];
  for (const [index, { role }] of messages.entries()) {
    if (role !== "assistant") continue;
    const asked = render(index, true);
    if (!isPrefix(asked, ids)) throw new Error(notPrefix(where, index, asked, ids));
    const start = asked.length;
    const isLast = index === messages.length - 1;
    const after = isLast ? ids : render(index + 1, false);
    answers.push({ start, end: turnEnd(tokenizer, ids, start, isPrefix(after, ids) ? after.length : null, where) });
  }
  const last = answers.at(-1);
  if (last === undefined) throw new Error(`Cannot use ${where}: no message is the assistant's, expected at least one`);
  if (last.end < ids.length || tokenizer.endToken === undefined || tokenizer.stopTokens.includes(ids.at(-1)!)) {
    return { ids, answers };
  }
  // The template leaves the end of an answer to whoever generates it.
  return { ids: [...ids, tokenizer.endToken], answers: [...answers.slice(0, -1), { ...last, end: ids.length + 1 }] };
}

/**
 * Behind the last token of a turn that ends an answer; templates write a line's end after it, which no model has to generate.
 *
 * @param rendered where the turn ends in the rendering of the messages up to it; null where that is not how the conversation begins,
 *   as in templates that shorten all but the last answer: then the first token that ends an answer ends this one
 */
function turnEnd(
  tokenizer: Tokenizer,
  ids: readonly number[],
  start: number,
  rendered: number | null,
  where: string,
): number {
  const stops = tokenizer.stopTokens;
  if (rendered === null) {
    const stop = ids.findIndex((id, i) => i >= start && stops.includes(id));
    if (stop >= 0) return stop + 1;
    throw new Error(`Cannot use ${where}: the chat template does not show where the answer at token ${start} ends`);
  }
  for (let i = rendered - 1; i >= start; i--) if (stops.includes(ids[i]!)) return i + 1;
  return rendered;
}

function checkMessages(messages: unknown, where: string): asserts messages is readonly ChatMessage[] {
  const expected = 'expected [{"role": "...", "content": "..."}, ...]';
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new Error(`Cannot use ${where}: "messages" received ${shown(messages)}, ${expected}`);
  }
  const bad = messages.findIndex((message) => !isChatMessage(message));
  if (bad >= 0)
    throw new Error(`Cannot use ${where}: message ${bad + 1} received ${shown(messages[bad])}, ${expected}`);
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 120);
}

function isPrefix(prefix: readonly number[], ids: readonly number[]): boolean {
  return prefix.length <= ids.length && prefix.every((id, i) => id === ids[i]);
}

function notPrefix(where: string, index: number, asked: readonly number[], ids: readonly number[]): string {
  const place = asked.findIndex((id, i) => id !== ids[i]);
  const before = index === 0 ? "no message" : index === 1 ? "message 1" : `messages 1 to ${index}`;
  return (
    `Cannot use ${where}: the chat template renders ${before} and the beginning of the answer differently when the rest follows: ` +
    `token ${place} received ${ids[place] ?? "nothing"}, expected ${asked[place]}`
  );
}

function attempt<T>(where: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw new Error(`Cannot use ${where}: ${error instanceof Error ? error.message : error}`);
  }
}
