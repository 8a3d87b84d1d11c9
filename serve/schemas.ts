/** What a chat completion request may contain. Nothing is ignored silently: a field is honoured, harmless, or refused by name. */
import { z } from "zod";
import { nearest } from "../runtime/cli/suggest.ts";
import { type ApiError, invalidRequest, unsupported } from "./errors.ts";

/** OpenAI's limit on the number; the length bounds the cost of looking for partial matches. */
const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 1000;
const MAX_LOGPROBS = 20;

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });

/** Parts are joined by a line feed, as other servers of open models do. */
const content = z.union([
  z.string(),
  z
    .array(textPart)
    .min(1)
    .transform((parts) => parts.map(({ text }) => text).join("\n")),
]);

const message = z.strictObject({
  // `developer` is what OpenAI calls the system role for newer models; chat templates know `system`.
  role: z
    .enum(["system", "developer", "user", "assistant"])
    .transform((role) => (role === "developer" ? "system" : role)),
  content,
});

const stopString = z.string().min(1).max(MAX_STOP_CHARACTERS);

/** Fields that change what is generated or how it is sent. */
const honoured = {
  model: z.string(),
  messages: z.array(message).min(1),
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({ include_usage: z.boolean().default(false), include_obfuscation: z.literal(false).optional() })
    .optional(),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  temperature: z.number().min(0).max(2).optional(),
  top_p: z.number().min(0).max(1).optional(),
  seed: z.int().optional(),
  stop: z.union([stopString.transform((one) => [one]), z.array(stopString).max(MAX_STOPS)]).default([]),
  presence_penalty: z.number().min(-2).max(2).default(0),
  frequency_penalty: z.number().min(-2).max(2).default(0),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, "expected a token id as key"), z.number().min(-100).max(100))
    .default({}),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(MAX_LOGPROBS).optional(),
  // Not OpenAI's, but what servers of open models agree on.
  top_k: z.int().min(-1).optional(),
  min_p: z.number().min(0).max(1).optional(),
  repetition_penalty: z.number().positive().max(10).optional(),
};

/** Fields that cannot change an answer of this server: any value of the right shape, or the one value that asks for nothing. */
const harmless = {
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  service_tier: z.enum(["auto", "default"]).optional(),
  store: z.literal(false).optional(),
  n: z.literal(1).optional(),
  modalities: z.tuple([z.literal("text")]).optional(),
  response_format: z.strictObject({ type: z.literal("text") }).optional(),
  tools: z.array(z.never()).optional(),
  tool_choice: z.literal("none").optional(),
};

/** Fields that OpenAI defines and this server does not honour, whatever their value. */
const REFUSED = new Set([
  "audio",
  "function_call",
  "functions",
  "moderation",
  "parallel_tool_calls",
  "prediction",
  "prompt_cache_options",
  "prompt_cache_retention",
  "reasoning_effort",
  "verbosity",
  "web_search_options",
]);

/** The same, within a message. */
const REFUSED_IN_MESSAGE = new Set(["audio", "function_call", "name", "refusal", "tool_call_id", "tool_calls"]);

const chatRequest = z.strictObject({ ...honoured, ...harmless });

export type ChatRequest = z.output<typeof chatRequest>;

/** Checks a parsed body. Throws an ApiError (400) that names the first field that cannot be honoured. A null means absent. */
export function parseChatRequest(body: unknown): ChatRequest {
  const result = chatRequest.safeParse(withoutNulls(body));
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw issue ? describeIssue(issue, body) : invalidRequest("Cannot read request");
}

/** OpenAI's clients send null for "not given", at the top and in messages (an earlier answer has `refusal: null`). */
function withoutNulls(body: unknown): unknown {
  if (!isRecord(body)) return body;
  const kept = dropNulls(body);
  if (Array.isArray(kept.messages))
    kept.messages = kept.messages.map((item) => (isRecord(item) ? dropNulls(item) : item));
  return kept;
}

function dropNulls(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describeIssue(issue: z.core.$ZodIssue, body: unknown): ApiError {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") return unknownField(path, issue.keys[0] ?? "");
  if (path[0] !== undefined && path[0] in harmless) {
    return unsupported(path[0], `${path[0]} ${preview(lookUp(body, [path[0]]))}`);
  }
  if (issue.code === "invalid_union") {
    // The branch that got furthest, and past its type, says what is wrong; a bare "invalid input" would not.
    const progress = (branch: z.core.$ZodIssue) => 2 * branch.path.length + (branch.code === "invalid_type" ? 0 : 1);
    const furthest = issue.errors.flat().sort((a, b) => progress(b) - progress(a))[0];
    if (furthest) return describeIssue({ ...furthest, path: [...issue.path, ...furthest.path] }, body);
  }
  const param = path.join(".");
  const received = lookUp(body, issue.path);
  if (received === undefined) {
    return invalidRequest(
      param ? `Missing required parameter: ${param}` : "Cannot read request: expected a JSON object",
      param || null,
    );
  }
  // The library names the received type; the value itself, which follows, says more.
  const reason = issue.message.replace(/^Invalid (input|option): /, "").replace(/, received \w+$/, "");
  return invalidRequest(`Cannot use ${param || "request"}: ${reason}, received ${preview(received)}`, param || null);
}

function unknownField(path: readonly string[], key: string): ApiError {
  const param = [...path, key].join(".");
  if (path.length === 0 ? REFUSED.has(key) : REFUSED_IN_MESSAGE.has(key)) return unsupported(param, param);
  const near = path.length === 0 ? nearest(key, [...Object.keys(honoured), ...Object.keys(harmless)]) : undefined;
  const hint = near ? ` (did you mean ${near}?)` : "";
  return invalidRequest(`Unknown parameter: ${param}${hint}`, param, "unknown_parameter");
}

function lookUp(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== "object" || found === null) return undefined;
    found = (found as Record<PropertyKey, unknown>)[key];
  }
  return found;
}

/** A value as JSON, short enough for an error message. */
function preview(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
