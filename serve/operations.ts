/** What this server can be asked: the list behind its routes, its OpenAPI document, its reference page and docs/API.md. */
import { loadAdapterRequest, unloadAdapterRequest } from "./schemas/adapters.ts";
import { chatRequest } from "./schemas/chat.ts";
import type { RequestSpec } from "./schemas/check.ts";
import { completionRequest } from "./schemas/completions.ts";
import { responseRequest } from "./schemas/responses.ts";
import { detokenizeRequest, tokenizeRequest } from "./schemas/tokenize.ts";

export interface Operation {
  readonly method: "GET" | "POST";
  /** As OpenAPI writes it. */
  readonly path: string;
  readonly summary: string;
  readonly answer: string;
  readonly contentType?: string;
  readonly request?: RequestSpec;
  /** Hands work to the engine: refused while the queue is full, before its body is read. */
  readonly generates?: boolean;
  /** Says nothing of anyone's requests, as probes and documents: needs no key. */
  readonly open?: boolean;
  /** Changes what is served: once there are keys, only for admin keys. */
  readonly admin?: boolean;
  /** Statuses of errors of its own, besides those that follow from the fields above. */
  readonly errors?: readonly number[];
}

export const OPERATIONS = {
  createChatCompletion: {
    method: "POST",
    path: "/v1/chat/completions",
    summary: "Answers a conversation, with tools and structured outputs.",
    answer: "OpenAI's chat.completion object, or with stream its chunks as server-sent events, ended by [DONE].",
    request: chatRequest,
    generates: true,
  },
  createCompletion: {
    method: "POST",
    path: "/v1/completions",
    summary: "Continues texts or token ids.",
    answer: "OpenAI's text_completion object, or with stream several of them as server-sent events, ended by [DONE].",
    request: completionRequest,
    generates: true,
  },
  createResponse: {
    method: "POST",
    path: "/v1/responses",
    summary: "Answers a conversation in the shape of OpenAI's newer API. Nothing is kept between requests.",
    answer: "OpenAI's response object, or with stream its events, response.created to response.completed.",
    request: responseRequest,
    generates: true,
  },
  listModels: {
    method: "GET",
    path: "/v1/models",
    summary: "Lists the model and its adapters.",
    answer:
      "OpenAI's list of model objects; root is the folder, parent of an adapter the model, max_model_len the context in tokens.",
  },
  getModel: {
    method: "GET",
    path: "/v1/models/{id}",
    summary: "Describes one of them.",
    answer: "OpenAI's model object.",
  },
  listAdapters: {
    method: "GET",
    path: "/v1/lora_adapters",
    summary: "Lists the adapters that requests can choose by name.",
    answer: '{object: "list", data: [...]}; each with its generation, which is another one after every load.',
  },
  loadAdapter: {
    method: "POST",
    path: "/v1/load_lora_adapter",
    summary:
      "Loads an adapter, or with load_inplace its next generation, while requests run: those keep the generation they began with.",
    answer: "The adapter as GET /v1/lora_adapters lists it.",
    request: loadAdapterRequest,
    admin: true,
    errors: [403, 409, 429, 503],
  },
  unloadAdapter: {
    method: "POST",
    path: "/v1/unload_lora_adapter",
    summary: "Unloads an adapter. Requests that run with it go on to their end.",
    answer: "The adapter as it was listed.",
    request: unloadAdapterRequest,
    admin: true,
    errors: [409, 503],
  },
  tokenize: {
    method: "POST",
    path: "/tokenize",
    summary: "Turns a text or messages into token ids.",
    answer: "{count, max_model_len, tokens, token_strs}, as vLLM has it.",
    request: tokenizeRequest,
  },
  detokenize: {
    method: "POST",
    path: "/detokenize",
    summary: "Turns token ids into text.",
    answer: "{prompt}, as vLLM has it.",
    request: detokenizeRequest,
  },
  getHealth: {
    method: "GET",
    path: "/health",
    summary: "Tells how the server is.",
    answer: "200 while it does what it was started for (ready, or no_model); 503 while loading, restarting or failed.",
    open: true,
  },
  getReady: {
    method: "GET",
    path: "/ready",
    summary: "Tells whether a request would be answered now.",
    answer: "200 if so; 503 with the reason otherwise.",
    open: true,
  },
  getMetrics: {
    method: "GET",
    path: "/metrics",
    summary: "Counts and times for Prometheus, under vLLM's names.",
    answer: "Prometheus' text format.",
    contentType: "text/plain",
    open: true,
  },
  getOpenApi: {
    method: "GET",
    path: "/openapi.json",
    summary: "Describes this API to programs.",
    answer: "An OpenAPI 3.1 document.",
    open: true,
  },
  getDocs: {
    method: "GET",
    path: "/docs",
    summary: "Describes this API to people.",
    answer: "A page that loads nothing from elsewhere.",
    contentType: "text/html",
    open: true,
  },
  getPage: {
    method: "GET",
    path: "/",
    summary: "Lets people chat with the model and shows them how the server is.",
    answer: "A page that loads nothing from elsewhere.",
    contentType: "text/html",
    open: true,
  },
  getPageFile: {
    method: "GET",
    path: "/page/{id}",
    summary: "Holds the page's script, style sheet and icon, under names that change with what is in them.",
    answer: "The file, to be kept for ever.",
    contentType: "application/octet-stream",
    open: true,
  },
} as const satisfies Record<string, Operation>;

export type OperationId = keyof typeof OPERATIONS;

/** In the order in which people are told about them. */
export function operations(): (readonly [id: OperationId, operation: Operation])[] {
  return Object.entries(OPERATIONS) as (readonly [OperationId, Operation])[];
}
