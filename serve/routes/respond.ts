/** How every route that generates answers: whole, or as a stream of events, until it is done or its client is gone. */
import type { Context } from "hono";
import { AdapterUnavailableError } from "../../runtime/engine/client.ts";
import { toApiError } from "../errors.ts";
import type { Service } from "../service.ts";
import { eventStream, type ServerEvent } from "../sse.ts";

/** One of the two is called, once. */
export interface Answer {
  /** Undefined if the client went away before it was complete. */
  whole(): Promise<object | undefined>;
  events(): AsyncGenerator<ServerEvent, void, void>;
  /** The last events of a stream that fails; by default the error as OpenAI's clients know it. */
  failure?(error: unknown): readonly ServerEvent[];
}

/**
 * `prepare` gets a signal that is aborted when the client goes away or the answer has to end; it throws an ApiError for what
 * cannot be answered.
 */
export async function respond(
  c: Context,
  service: Service,
  stream: boolean,
  prepare: (signal: AbortSignal) => Promise<Answer>,
): Promise<Response> {
  const { request } = service;
  const gone = new AbortController();
  const answer = await prepare(AbortSignal.any([gone.signal, c.req.raw.signal, request.signal]));
  if (stream) {
    request.streaming = true;
    // It may end before its head is sent.
    request.facts.status = 200;
    return eventStream(answer.events(), {
      onError: (error) => {
        logUnexpected(service, error);
        request.facts.error = toApiError(error).code ?? "invalid_request";
        return answer.failure?.(error) ?? [JSON.stringify(toApiError(error).body)];
      },
      onCancel: () => gone.abort(),
      onEnd: () => request.end(),
      signal: request.signal,
    });
  }
  const body = await answer.whole();
  // Nobody reads an answer whose client is gone; 499 is what proxies log for it.
  return body ? c.json(body) : new Response(null, { status: 499 });
}

/** Errors that are not a client's go to the log. */
export function logUnexpected({ log, request }: Service, error: unknown): void {
  if (error instanceof AdapterUnavailableError) {
    log.warn({ requestId: request.id, reason: error.message }, "adapter unavailable");
  } else if (toApiError(error).status === 500) log.error({ requestId: request.id, error }, "unexpected error");
}
