/** OpenAI's `text_completion` objects, whole or as the chunks of a stream. */
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";
import type { Generation } from "../generation.ts";
import { usageObject, wholeChoices } from "./answers.ts";
import { completionLogprobs } from "./logprobs.ts";

export interface EchoedGeneration extends Generation {
  /** What comes before the text of each choice: its prompt's text, or nothing. */
  readonly echoes: readonly string[];
}

/** The whole answer as one object. Undefined if the client went away before it was complete. */
export async function completionObject(
  generation: EchoedGeneration,
  tokenizer: Tokenizer,
): Promise<object | undefined> {
  const whole = await wholeChoices(generation);
  if (!whole) return undefined;
  const choices = whole.choices.map(({ index, deltas, logprobs, finish }) => ({
    index,
    text: (generation.echoes[index] ?? "") + deltas.map(({ text }) => text).join(""),
    logprobs: completionLogprobs(logprobs, tokenizer, 0),
    finish_reason: finish,
  }));
  return { ...head(generation), choices, usage: usageObject(generation.prompt, whole.tokens) };
}

/**
 * The events of a stream, as JSON: echoed prompts, text as it comes, the last of each choice with its finish reason, the usage
 * if asked for, `[DONE]`. Ends early, without them, when the client went away.
 */
export async function* completionEvents(
  generation: EchoedGeneration,
  includeUsage: boolean,
  tokenizer: Tokenizer,
): AsyncGenerator<string, void, void> {
  const chunk = (choices: readonly object[], usage: object | null = null) =>
    JSON.stringify({ ...head(generation), choices, ...(includeUsage && { usage }) });
  const choice = (index: number, text: string, logprobs: object | null = null, finish: string | null = null) => [
    { index, text, logprobs, finish_reason: finish },
  ];
  for (const [index, echo] of generation.echoes.entries()) if (echo !== "") yield chunk(choice(index, echo));
  /** Characters of each choice that were sent. */
  const sent = new Array<number>(generation.choices).fill(0);
  let tokens = 0;
  let unfinished = generation.choices;
  for await (const { index, text, logprobs, finish, ...delta } of generation.deltas) {
    tokens += delta.tokens;
    if (finish) unfinished--;
    if (text === "" && !logprobs?.length && !finish) continue;
    const offset = sent[index] ?? 0;
    sent[index] = offset + text.length;
    yield chunk(choice(index, text, completionLogprobs(logprobs, tokenizer, offset), finish ?? null));
  }
  if (unfinished > 0) return;
  if (includeUsage) yield chunk([], usageObject(generation.prompt, tokens));
  yield "[DONE]";
}

function head({ id, created, model }: Generation): object {
  return { id, object: "text_completion", created, model };
}
