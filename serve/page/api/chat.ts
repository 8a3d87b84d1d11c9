/** POST /v1/chat/completions as a stream. */
import { eventData } from "./events.ts";
import { postJson, RequestError } from "./request.ts";
import { CUT_OFF, type ErrorObject, troubleOf } from "./trouble.ts";

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly { readonly role: "system" | "user" | "assistant"; readonly content: string }[];
  readonly [setting: string]: unknown;
}

export interface Usage {
  readonly promptTokens: number;
  /** Of those, the ones that did not have to be computed again. */
  readonly cachedTokens: number;
  readonly answerTokens: number;
}

export type ChatEvent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "finish"; readonly reason: string }
  | { readonly type: "usage"; readonly usage: Usage };

interface Chunk {
  readonly error?: ErrorObject;
  readonly choices?: readonly {
    readonly delta?: { readonly content?: string | null };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number };
  } | null;
}

/** Throws a RequestError when the request is refused, fails midway or loses its connection, and an AbortError. */
export async function* streamChat(request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent, void, void> {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await postJson("/v1/chat/completions", body, signal);
  if (!response.body) throw new RequestError(CUT_OFF);
  try {
    for await (const data of eventData(response.body)) {
      if (data === "[DONE]") return;
      yield* chunkEvents(JSON.parse(data) as Chunk);
    }
  } catch (error) {
    if (signal.aborted || error instanceof RequestError) throw error;
    throw new RequestError(CUT_OFF);
  }
  throw new RequestError(CUT_OFF);
}

function* chunkEvents({ error, choices, usage }: Chunk): Generator<ChatEvent, void, void> {
  if (error) throw new RequestError(troubleOf(0, error));
  const [choice] = choices ?? [];
  if (choice?.delta?.content) yield { type: "text", text: choice.delta.content };
  if (choice?.finish_reason) yield { type: "finish", reason: choice.finish_reason };
  if (!usage) return;
  const cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? 0;
  yield {
    type: "usage",
    usage: { promptTokens: usage.prompt_tokens, cachedTokens, answerTokens: usage.completion_tokens },
  };
}
