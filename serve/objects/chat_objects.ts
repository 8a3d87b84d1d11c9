/** OpenAI's `chat.completion` and `chat.completion.chunk` objects, made from text deltas. */
import type { TokenLogprob } from "../../runtime/engine/protocol.ts";
import type { AnswerDelta } from "../../runtime/grammar/tools/mod.ts";
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";
import type { ChatGeneration } from "../conversation.ts";
import type { ChatFinish } from "../tool_calls.ts";
import { usageObject, wholeChoices } from "./answers.ts";
import { logprobEntries } from "./logprobs.ts";

/** The whole answer as one object. Undefined if the client went away before it was complete. */
export async function chatObject(generation: ChatGeneration, tokenizer: Tokenizer): Promise<object | undefined> {
  const whole = await wholeChoices(generation);
  if (!whole) return undefined;
  return {
    id: generation.id,
    object: "chat.completion",
    created: generation.created,
    model: generation.model,
    choices: whole.choices.map(({ index, deltas, logprobs, finish }) => ({
      index,
      message: messageObject(deltas.flatMap(({ parts }) => parts)),
      logprobs: logprobsObject(logprobs, tokenizer),
      finish_reason: finish,
    })),
    usage: usageObject(generation.prompt, whole.tokens),
  };
}

/**
 * The events of a stream, as JSON: the role of every choice, text as it comes, finish reasons, the usage if asked for,
 * `[DONE]`. Ends early, without them, when the client went away.
 */
export async function* chatEvents(
  generation: ChatGeneration,
  includeUsage: boolean,
  tokenizer: Tokenizer,
): AsyncGenerator<string, void, void> {
  const chunk = (choices: readonly object[], usage: object | null = null) =>
    JSON.stringify({
      id: generation.id,
      object: "chat.completion.chunk",
      created: generation.created,
      model: generation.model,
      choices,
      ...(includeUsage && { usage }),
    });
  const choice = (
    index: number,
    delta: object,
    logprobs?: readonly TokenLogprob[],
    finish: ChatFinish | null = null,
  ) => [{ index, delta, logprobs: logprobsObject(logprobs, tokenizer), finish_reason: finish }];

  for (let index = 0; index < generation.choices; index++) {
    yield chunk(choice(index, { role: "assistant", content: "", refusal: null }));
  }
  let tokens = 0;
  let unfinished = generation.choices;
  for await (const { index, parts, logprobs, finish, ...delta } of generation.deltas) {
    tokens += delta.tokens;
    // Log-probabilities go with the first part, or alone while the text they are of is held back.
    const [first, ...others] = parts.length === 0 && logprobs?.length ? [{ content: "" }] : parts;
    if (first) yield chunk(choice(index, first, logprobs));
    for (const part of others) yield chunk(choice(index, part));
    if (!finish) continue;
    yield chunk(choice(index, {}, undefined, finish));
    unfinished--;
  }
  if (unfinished > 0) return;
  if (includeUsage) yield chunk([], usageObject(generation.prompt, tokens));
  yield "[DONE]";
}

export interface WholeCall {
  readonly id: string;
  readonly name: string;
  readonly arguments: string;
}

/** The text and the calls of a whole answer. */
export function collectParts(parts: readonly AnswerDelta[]): { text: string; calls: readonly WholeCall[] } {
  const calls: { id: string; name: string; texts: string[] }[] = [];
  for (const { index, id, function: call } of parts.flatMap(({ tool_calls }) => tool_calls ?? [])) {
    calls[index] ??= { id: id ?? "", name: call.name ?? "", texts: [] };
    calls[index]?.texts.push(call.arguments);
  }
  return {
    text: parts.map(({ content }) => content ?? "").join(""),
    calls: calls.map(({ texts, ...call }) => ({ ...call, arguments: texts.join("") })),
  };
}

function messageObject(parts: readonly AnswerDelta[]): object {
  const { text, calls } = collectParts(parts);
  return {
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    refusal: null,
    ...(calls.length > 0 && {
      tool_calls: calls.map(({ id, ...call }) => ({ id, type: "function", function: call })),
    }),
  };
}

function logprobsObject(logprobs: readonly TokenLogprob[] | undefined, tokenizer: Tokenizer): object | null {
  return logprobs ? { content: logprobEntries(logprobs, tokenizer), refusal: null } : null;
}
