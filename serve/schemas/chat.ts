/** What POST /v1/chat/completions accepts. */
import { z } from "zod";
import type { RequestSpec } from "./check.ts";
import { about, model, sampling } from "./common.ts";
import { message } from "./messages.ts";
import { chatFormat, chatToolChoice, chatTools, parallelToolCalls } from "./tools.ts";

const MAX_LOGPROBS = 20;

const honoured = {
  model,
  messages: z.array(message).min(1).meta({ description: "Texts or lists of text parts." }),
  max_completion_tokens: z.int().min(1).optional().meta({ description: "Default: what fits into the context." }),
  max_tokens: z.int().min(1).optional().meta({ description: "OpenAI's older name of max_completion_tokens." }),
  ...sampling,
  tools: chatTools,
  tool_choice: chatToolChoice.meta({ description: "none, auto, required, or one function by name." }),
  parallel_tool_calls: parallelToolCalls,
  response_format: chatFormat,
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(MAX_LOGPROBS).optional().meta({ description: "Needs logprobs." }),
};

const harmless = {
  ...about,
  store: z.literal(false).optional(),
  modalities: z.tuple([z.literal("text")]).optional(),
};

const schema = z.strictObject({ ...honoured, ...harmless });

export type ChatRequest = z.output<typeof schema>;

export const chatRequest: RequestSpec<typeof schema> = {
  schema,
  harmless: new Set(Object.keys(harmless)),
  refused: {
    audio: "answers are text",
    function_call: "OpenAI's older form of tool_choice",
    functions: "OpenAI's older form of tools",
    moderation: "there is no moderation model",
    prediction: "there is no speculative decoding",
    prompt_cache_options: "the prefix cache takes no options",
    prompt_cache_retention: "the prefix cache keeps what fits",
    reasoning_effort: "the models served do not reason apart",
    verbosity: "the models served are not trained for it",
    web_search_options: "nothing is looked up",
  },
  items: {
    field: "messages",
    refused: new Set(["audio", "function_call", "name", "refusal"]),
  },
};
