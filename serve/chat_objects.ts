/** OpenAI's `chat.completion` and `chat.completion.chunk` objects, made from text deltas. */
import type { TextDelta } from "../runtime/chat/generate.ts";
import type { TokenLogprob } from "../runtime/engine/protocol.ts";
import type { Tokenizer } from "../runtime/tokenizer/mod.ts";
import type { Completion } from "./chat.ts";
import type { ChatRequest } from "./schemas.ts";

/** The whole answer as one object. Undefined if the client went away before it was complete. */
export async function completionObject(
  { deltas, ...completion }: Completion,
  tokenizer: Tokenizer,
): Promise<object | undefined> {
  let content = "";
  let tokens = 0;
  let logprobs: TokenLogprob[] | undefined;
  let finish: TextDelta["finish"];
  for await (const delta of deltas) {
    content += delta.text;
    tokens += delta.tokens;
    if (delta.logprobs) logprobs = [...(logprobs ?? []), ...delta.logprobs];
    finish = delta.finish;
  }
  if (!finish) return undefined;
  const message = { role: "assistant", content, refusal: null };
  return {
    id: completion.id,
    object: "chat.completion",
    created: completion.created,
    model: completion.model,
    choices: [{ index: 0, message, logprobs: logprobsObject(logprobs, tokenizer), finish_reason: finish }],
    usage: usageObject(completion.promptTokens, tokens),
  };
}

/**
 * The events of a stream, as JSON: the role, the text as it comes, the finish reason, the usage if asked for, `[DONE]`. Ends
 * early, without them, when the client went away.
 */
export async function* completionEvents(
  completion: Completion,
  request: ChatRequest,
  tokenizer: Tokenizer,
): AsyncGenerator<string, void, void> {
  const includeUsage = request.stream_options?.include_usage === true;
  const chunk = (choices: readonly object[], usage: object | null = null) =>
    JSON.stringify({
      id: completion.id,
      object: "chat.completion.chunk",
      created: completion.created,
      model: completion.model,
      choices,
      ...(includeUsage && { usage }),
    });
  const choice = (delta: object, logprobs: TextDelta["logprobs"], finish: TextDelta["finish"] | null) => [
    { index: 0, delta, logprobs: logprobsObject(logprobs, tokenizer), finish_reason: finish },
  ];

  yield chunk(choice({ role: "assistant", content: "", refusal: null }, undefined, null));
  let tokens = 0;
  for await (const delta of completion.deltas) {
    tokens += delta.tokens;
    if (delta.text !== "" || delta.logprobs?.length) yield chunk(choice({ content: delta.text }, delta.logprobs, null));
    if (!delta.finish) continue;
    yield chunk(choice({}, undefined, delta.finish));
    if (includeUsage) yield chunk([], usageObject(completion.promptTokens, tokens));
    yield "[DONE]";
  }
}

function usageObject(promptTokens: number, completionTokens: number): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/** Log-probabilities in OpenAI's shape. `bytes` is null for a token that is only a part of a character. */
function logprobsObject(logprobs: readonly TokenLogprob[] | undefined, tokenizer: Tokenizer): object | null {
  if (!logprobs) return null;
  const entry = (id: number, logprob: number) => {
    const token = tokenText(id, tokenizer);
    return { token, logprob, bytes: token.includes("\uFFFD") ? null : [...new TextEncoder().encode(token)] };
  };
  const content = logprobs.map(({ token, logprob, top }) => ({
    ...entry(token, logprob),
    top_logprobs: top.map(([other, value]) => entry(other, value)),
  }));
  return { content, refusal: null };
}

/** A token's text within a text: at the start of one some tokenizers drop its leading space. */
function tokenText(id: number, tokenizer: Tokenizer): string {
  const options = { skipSpecialTokens: false };
  return tokenizer.decode([id, id], options).slice(tokenizer.decode([id], options).length);
}
