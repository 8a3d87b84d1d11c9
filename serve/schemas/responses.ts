/** What POST /v1/responses accepts. */
import { z } from "zod";
import type { ChatMessage } from "../../runtime/tokenizer/mod.ts";
import type { RequestSpec } from "./check.ts";
import { about, drawing, model } from "./common.ts";
import { functionName, parallelToolCalls, responseFormat, responseToolChoice, responseTools } from "./tools.ts";

const MAX_LOGPROBS = 20;

const inputPart = z.strictObject({ type: z.literal("input_text"), text: z.string() });
/** Parts of an earlier answer, sent back as they came. */
const outputPart = z.strictObject({
  type: z.literal("output_text"),
  text: z.string(),
  annotations: z.array(z.unknown()).optional(),
  logprobs: z.array(z.unknown()).optional(),
});

const content = z.union([
  z.string(),
  z
    .array(z.discriminatedUnion("type", [inputPart, outputPart]))
    .min(1)
    .transform((parts) => parts.map(({ text }) => text).join("\n")),
]);

const status = z.enum(["in_progress", "completed", "incomplete"]).optional();

const message = z
  .strictObject({
    type: z.literal("message").optional(),
    role: z.enum(["system", "developer", "user", "assistant"]),
    content,
    id: z.string().optional(),
    status,
    phase: z.string().optional(),
  })
  .transform(({ role, content }): ChatMessage => ({ role: role === "developer" ? "system" : role, content }));

const functionCall = z
  .strictObject({
    type: z.literal("function_call"),
    call_id: z.string(),
    name: functionName,
    arguments: z.string(),
    id: z.string().optional(),
    status,
  })
  .transform((call): ChatMessage => {
    const made = { name: call.name, arguments: call.arguments };
    return { role: "assistant", content: "", tool_calls: [{ id: call.call_id, type: "function", function: made }] };
  });

const functionOutput = z
  .strictObject({
    type: z.literal("function_call_output"),
    call_id: z.string(),
    output: content,
    id: z.string().optional(),
    status,
  })
  .transform(({ call_id, output }): ChatMessage => ({ role: "tool", content: output, tool_call_id: call_id }));

const honoured = {
  model,
  input: z
    .union([
      z.string().transform((text): ChatMessage[] => [{ role: "user", content: text }]),
      z
        .array(z.union([message, functionCall, functionOutput]))
        .min(1)
        .transform(joinCalls),
    ])
    .meta({ description: "A text, or items: messages, function_call and function_call_output." }),
  instructions: z.string().optional().meta({ description: "A system message before the input." }),
  max_output_tokens: z.int().min(1).optional().meta({ description: "Default: what fits into the context." }),
  ...drawing,
  tools: responseTools,
  tool_choice: responseToolChoice.meta({ description: "none, auto, required, or one function by name." }),
  parallel_tool_calls: parallelToolCalls,
  text: z
    .strictObject({ format: responseFormat })
    .default({ format: { type: "text" } })
    .meta({ description: "format: text, json_object or json_schema." }),
  include: z
    .array(z.literal("message.output_text.logprobs"))
    .default([])
    .meta({ description: "message.output_text.logprobs." }),
  top_logprobs: z.int().min(0).max(MAX_LOGPROBS).optional().meta({ description: "Needs logprobs in include." }),
  stream: z.boolean().default(false),
};

const harmless = {
  ...about,
  store: z.literal(false).optional().meta({ description: "Nothing is kept, whether this is absent or false." }),
  background: z.literal(false).optional(),
  truncation: z.literal("disabled").optional(),
  stream_options: z.strictObject({ include_obfuscation: z.literal(false).optional() }).optional(),
};

const schema = z.strictObject({ ...honoured, ...harmless });

export type ResponseRequest = z.output<typeof schema>;

export const responseRequest: RequestSpec<typeof schema> = {
  schema,
  harmless: new Set(Object.keys(harmless)),
  refused: {
    context_management: "nothing is kept",
    conversation: "nothing is kept",
    max_tool_calls: "there are no built-in tools",
    moderation: "there is no moderation model",
    previous_response_id: "nothing is kept",
    prompt: "nothing is kept",
    prompt_cache_options: "the prefix cache takes no options",
    prompt_cache_retention: "the prefix cache keeps what fits",
    reasoning: "the models served do not reason apart",
  },
  items: { field: "input", refused: new Set(["caller", "namespace", "summary", "encrypted_content"]) },
};

/** Calls of one turn are one message for a template, together with the text before them. */
function joinCalls(messages: readonly ChatMessage[]): ChatMessage[] {
  const joined: ChatMessage[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    const isCall = message.tool_calls !== undefined;
    if (isCall && last?.role === "assistant") {
      const calls = [last.tool_calls ?? [], message.tool_calls].flat();
      joined[joined.length - 1] = { ...last, tool_calls: calls };
    } else joined.push(message);
  }
  return joined;
}
