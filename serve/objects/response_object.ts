/** OpenAI's `response` object and its items. */

import type { TokenLogprob } from "../../runtime/engine/protocol.ts";
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";
import type { PromptUsage } from "../generation.ts";
import type { ResponseRequest } from "../schemas/responses.ts";
import type { ChatFinish } from "../tool_calls.ts";
import { logprobEntries } from "./logprobs.ts";

export type ItemStatus = "in_progress" | "completed" | "incomplete";

export interface MessageItem {
  readonly type: "message";
  readonly id: string;
  readonly status: ItemStatus;
  readonly role: "assistant";
  readonly content: readonly OutputText[];
}

export interface OutputText {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly never[];
  readonly logprobs: readonly object[];
}

export interface CallItem {
  readonly type: "function_call";
  readonly id: string;
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
}

export type OutputItem = MessageItem | CallItem;

/** Where a response stands. */
export interface ResponseState {
  readonly status: "in_progress" | "completed" | "incomplete" | "failed";
  readonly output: readonly OutputItem[];
  /** Undefined until the response is over. */
  readonly tokens?: { readonly prompt: PromptUsage; readonly generated: number };
  readonly error?: { readonly code: string; readonly message: string };
}

export interface ResponseHead {
  readonly id: string;
  readonly created: number;
  readonly request: ResponseRequest;
  /** As drawn, defaults filled in. */
  readonly sampling: { readonly temperature: number; readonly topP: number };
}

export function responseObject({ id, created, request, sampling }: ResponseHead, state: ResponseState): object {
  const { tokens, error } = state;
  return {
    id,
    object: "response",
    created_at: created,
    status: state.status,
    background: false,
    error: error ?? null,
    incomplete_details: state.status === "incomplete" ? { reason: "max_output_tokens" } : null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    model: request.model,
    output: state.output,
    parallel_tool_calls: request.parallel_tool_calls,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    service_tier: "default",
    store: false,
    temperature: sampling.temperature,
    text: { format: formatObject(request) },
    tool_choice: toolChoiceObject(request),
    tools: request.tools.map(({ name, description, parameters, strict }) => ({
      type: "function",
      name,
      description: description ?? null,
      parameters: parameters ?? null,
      strict: strict ?? false,
    })),
    top_logprobs: request.top_logprobs ?? 0,
    top_p: sampling.topP,
    truncation: "disabled",
    usage: tokens ? usageObject(tokens.prompt, tokens.generated) : null,
    user: request.user ?? null,
    metadata: request.metadata ?? {},
  };
}

function formatObject({ text: { format } }: ResponseRequest): object {
  if (format.type !== "json_schema") return format;
  const { name, description, schema, strict } = format;
  return { type: "json_schema", name, description: description ?? null, schema, strict };
}

function toolChoiceObject({ tool_choice }: ResponseRequest): string | object {
  return typeof tool_choice === "string" ? tool_choice : { type: "function", name: tool_choice.name };
}

function usageObject(prompt: PromptUsage, generatedTokens: number): object {
  return {
    input_tokens: prompt.tokens,
    input_tokens_details: { cached_tokens: prompt.cachedTokens },
    output_tokens: generatedTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: prompt.tokens + generatedTokens,
  };
}

export function outputText(text: string, logprobs: readonly TokenLogprob[], tokenizer: Tokenizer): OutputText {
  return { type: "output_text", text, annotations: [], logprobs: logprobEntries(logprobs, tokenizer) };
}

/** How a response whose generation ended this way stands. */
export function finalStatus(finish: ChatFinish): "completed" | "incomplete" {
  return finish === "length" ? "incomplete" : "completed";
}
