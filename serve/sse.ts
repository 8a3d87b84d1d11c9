/** Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) from an async generator. */

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // Proxies that buffer answers would turn a stream into one late block.
  "x-accel-buffering": "no",
};

/**
 * A streaming response with one `data:` event per item. Items are taken only as fast as the client reads. `onError` makes the
 * last event of a generator that throws; `onCancel` is called when the client goes away and must make the generator end (a
 * generator that is waiting for its next item cannot be ended from outside).
 */
export function eventStream(
  items: AsyncGenerator<string, void, void>,
  handlers: { onError(error: unknown): string; onCancel(): void },
): Response {
  const encoder = new TextEncoder();
  const event = (data: string) => encoder.encode(`data: ${data}\n\n`);
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let next: Uint8Array | undefined;
      let failed = false;
      try {
        const { done, value } = await items.next();
        if (!done) next = event(value);
      } catch (error) {
        failed = true;
        next = event(handlers.onError(error));
      }
      if (cancelled) return;
      if (next) controller.enqueue(next);
      if (!next || failed) controller.close();
    },
    cancel() {
      cancelled = true;
      handlers.onCancel();
    },
  });
  return new Response(body, { headers: HEADERS });
}
