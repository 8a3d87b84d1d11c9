/** From messages to the tokens of a prompt, in a time that the model's context bounds and not the client. */
import { type ChatMessage, ChatTemplateError, type Tokenizer } from "../runtime/tokenizer/mod.ts";
import { type ApiError, invalidRequest } from "./errors.ts";

/** Text is measured in slices of this many characters, with other requests served in between. */
const SLICE_CHARACTERS = 8192;
/** Slices have a few tokens more than the whole, so only what is far beyond the context is refused by them. */
const MEASURE_MARGIN = 1.5;
/** No text has more characters per token than this on average; runs of one character have, and take long to tokenize. */
const MOST_CHARACTERS_PER_TOKEN = 32;

/** Throws an ApiError when the template refuses the messages or they are far too long; else the result may still be too long. */
export async function encodePrompt(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  contextLength: number,
): Promise<number[]> {
  const text = render(tokenizer, messages);
  if (text.length > contextLength * MOST_CHARACTERS_PER_TOKEN) throw contextExceeded(contextLength, "far more");
  if (text.length > contextLength * MEASURE_MARGIN) {
    let tokens = 0;
    for (let at = 0; at < text.length; at += SLICE_CHARACTERS) {
      tokens += tokenizer.encode(text.slice(at, at + SLICE_CHARACTERS), { addSpecialTokens: false }).length;
      if (tokens > contextLength * MEASURE_MARGIN) throw contextExceeded(contextLength, `more than ${tokens}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return tokenizer.encode(text, { addSpecialTokens: false });
}

/** `has`: how many tokens the messages have, and what else was asked for. */
export function contextExceeded(contextLength: number, has: string): ApiError {
  const message = `This model's context holds ${contextLength} tokens; the messages have ${has}`;
  return invalidRequest(message, "messages", "context_length_exceeded");
}

function render(tokenizer: Tokenizer, messages: readonly ChatMessage[]): string {
  try {
    return tokenizer.applyChatTemplate(messages);
  } catch (error) {
    // Templates refuse conversations they cannot express, for example two user messages in a row.
    if (error instanceof ChatTemplateError) throw invalidRequest(error.message, "messages");
    throw error;
  }
}
