/** From text and messages to the tokens of a prompt, in a time that the model's context bounds and not the client. */
import type { EngineModelInfo } from "../runtime/engine/protocol.ts";
import {
  type ChatMessage,
  ChatTemplateError,
  type ChatTemplateOptions,
  type Tokenizer,
} from "../runtime/tokenizer/mod.ts";
import { type ApiError, invalidRequest } from "./errors.ts";

/** Text is measured in slices of this many characters, with other requests served in between. */
const SLICE_CHARACTERS = 8192;
/** Slices have a few tokens more than the whole, so only what is far beyond the context is refused by them. */
const MEASURE_MARGIN = 1.5;
/** No text has more characters per token than this on average; runs of one character have, and take long to tokenize. */
const MOST_CHARACTERS_PER_TOKEN = 32;

/** Where a prompt comes from, for errors, and how its text is encoded. */
export interface EncodeRequest {
  readonly contextLength: number;
  /** The request's field that holds it. */
  readonly param: string;
  readonly addSpecialTokens: boolean;
}

/** Throws an ApiError when the text is far too long for the context; else the result may still be too long. */
export async function encodeText(tokenizer: Tokenizer, text: string, request: EncodeRequest): Promise<number[]> {
  const { contextLength, param, addSpecialTokens } = request;
  if (text.length > contextLength * MOST_CHARACTERS_PER_TOKEN) throw contextExceeded(contextLength, "far more", param);
  if (text.length > contextLength * MEASURE_MARGIN) {
    let tokens = 0;
    for (let at = 0; at < text.length; at += SLICE_CHARACTERS) {
      tokens += tokenizer.encode(text.slice(at, at + SLICE_CHARACTERS), { addSpecialTokens: false }).length;
      if (tokens > contextLength * MEASURE_MARGIN) throw contextExceeded(contextLength, `more than ${tokens}`, param);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  return tokenizer.encode(text, { addSpecialTokens });
}

/** Throws an ApiError when the model's template refuses the messages, as templates do with what they cannot express. */
export function renderMessages(
  tokenizer: Tokenizer,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
  param: string,
): string {
  try {
    return tokenizer.applyChatTemplate(messages, options);
  } catch (error) {
    if (error instanceof ChatTemplateError) throw invalidRequest(error.message, param);
    throw error;
  }
}

/** How many tokens an answer may have: what was asked for, or all that fits. Throws an ApiError if that does not fit. */
export function answerBudget(
  asked: number | undefined,
  promptTokens: number,
  { contextLength }: EngineModelInfo,
  param: string,
): number {
  const room = contextLength - promptTokens;
  if (asked === undefined ? room > 0 : asked <= room) return asked ?? room;
  const wanted = asked === undefined ? "" : ` and ${asked} were asked for the answer`;
  throw contextExceeded(contextLength, `${promptTokens}${wanted}`, param);
}

/** `has`: how many tokens there are, and what else was asked for. */
function contextExceeded(contextLength: number, has: string, param: string): ApiError {
  const verb = param === "messages" ? "the messages have" : `the ${param} has`;
  const message = `This model's context holds ${contextLength} tokens; ${verb} ${has}`;
  return invalidRequest(message, param, "context_length_exceeded");
}
