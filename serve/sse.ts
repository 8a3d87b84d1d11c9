/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) from an async generator. */

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // Proxies that buffer answers would turn a stream into one late block.
  "x-accel-buffering": "no",
};

/** A comment this often keeps a silent connection from being taken for dead by what lies between server and client. */
const KEEP_ALIVE_MS = 15_000;

/** One event: its data and, if it has one, its name. */
export type ServerEvent = string | { readonly event: string; readonly data: string };

export interface StreamHandlers {
  /** Makes the last events of a generator that throws. */
  onError(error: unknown): readonly ServerEvent[];
  /** Called when the client goes away; must make the generator end, which cannot be done from outside while it waits. */
  onCancel(): void;
  /** Called once, when nothing more will be sent. */
  onEnd(): void;
  /** Aborted when the stream has to end, even while its client does not read: with what onError makes of the reason. */
  readonly signal?: AbortSignal;
}

/**
 * A streaming response with one event per item. Items are taken only as fast as the client reads; silence is filled with
 * comments.
 */
export function eventStream(
  items: AsyncGenerator<ServerEvent, void, void>,
  handlers: StreamHandlers,
  keepAliveMs = KEEP_ALIVE_MS,
): Response {
  const encoder = new TextEncoder();
  const { signal } = handlers;
  let pending: Promise<IteratorResult<ServerEvent, void>> | undefined;
  let over = false;
  let onAbort = () => {};
  const end = () => {
    over = true;
    signal?.removeEventListener("abort", onAbort);
    handlers.onEnd();
    // Ends a generator that is not waiting for anything, which nothing else would.
    items.return().catch(() => {});
  };
  const fail = (controller: ReadableStreamDefaultController<Uint8Array>, error: unknown) => {
    for (const event of handlers.onError(error)) controller.enqueue(encoder.encode(frame(event)));
    controller.close();
    end();
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      onAbort = () => fail(controller, signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
    },
    async pull(controller) {
      try {
        pending ??= items.next();
        const result = await withinTime(pending, keepAliveMs);
        if (over) return;
        if (result === "late") {
          controller.enqueue(encoder.encode(": keep-alive\n\n"));
          return;
        }
        pending = undefined;
        if (result.done) {
          controller.close();
          end();
        } else controller.enqueue(encoder.encode(frame(result.value)));
      } catch (error) {
        if (!over) fail(controller, error);
      }
    },
    cancel() {
      handlers.onCancel();
      end();
    },
  });
  return new Response(body, { headers: HEADERS });
}

function frame(event: ServerEvent): string {
  return typeof event === "string" ? `data: ${event}\n\n` : `event: ${event.event}\ndata: ${event.data}\n\n`;
}

async function withinTime<T>(work: Promise<T>, ms: number): Promise<T | "late"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
