import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventStream } from "./sse.ts";

async function* items(texts: readonly string[], failure?: Error): AsyncGenerator<string, void, void> {
  yield* texts;
  if (failure) throw failure;
}

const handlers = { onError: (error: unknown) => `failed: ${error}`, onCancel: () => {} };

describe("eventStream", () => {
  it("frames each item as an event and ends with the generator", async () => {
    const response = eventStream(items(["a", "b"]), handlers);
    assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assertEquals(await response.text(), "data: a\n\ndata: b\n\n");
  });

  it("ends with what is said about an error", async () => {
    const response = eventStream(items(["a"], new Error("no more")), handlers);
    assertEquals(await response.text(), "data: a\n\ndata: failed: Error: no more\n\n");
  });

  it("tells when the client goes away", async () => {
    let cancelled = 0;
    const response = eventStream(items(["a", "b", "c"]), { ...handlers, onCancel: () => cancelled++ });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    assertEquals(cancelled, 1);
  });
});
