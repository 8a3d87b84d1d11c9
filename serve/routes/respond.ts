/** How every route that generates answers: whole, or as a stream of events, until it is done or its client is gone. */
import type { Context } from "hono";
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

/** `prepare` gets a signal that is aborted when the client goes away; it throws an ApiError for what cannot be answered. */
export async function respond(
  c: Context,
  service: Service,
  stream: boolean,
  prepare: (signal: AbortSignal) => Promise<Answer>,
): Promise<Response> {
  const gone = new AbortController();
  const answer = await prepare(AbortSignal.any([gone.signal, c.req.raw.signal]));
  if (stream) {
    return eventStream(answer.events(), {
      onError: (error) => {
        logUnexpected(service, error);
        return answer.failure?.(error) ?? [JSON.stringify(toApiError(error).body)];
      },
      onCancel: () => gone.abort(),
    });
  }
  const body = await answer.whole();
  // Nobody reads an answer whose client is gone; 499 is what proxies log for it.
  return body ? c.json(body) : new Response(null, { status: 499 });
}

/** Errors that are not a client's go to the log. */
export function logUnexpected({ log }: Service, error: unknown): void {
  if (toApiError(error).status === 500) log(error instanceof Error ? (error.stack ?? error.message) : String(error));
}
