import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventStream } from "./sse.ts";

async function* items(texts: readonly string[], failure?: Error): AsyncGenerator<string, void, void> {
  yield* texts;
  if (failure) throw failure;
}

const handlers = { onError: (error: unknown) => [`failed: ${error}`], onCancel: () => {} };

describe("eventStream", () => {
  it("frames each item as an event and ends with the generator", async () => {
    const response = eventStream(items(["a", "b"]), handlers);
    assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assertEquals(await response.text(), "data: a\n\ndata: b\n\n");
  });

  it("names events that have a name", async () => {
    async function* named() {
      yield { event: "greeting", data: "hello" };
    }
    assertEquals(await eventStream(named(), handlers).text(), "event: greeting\ndata: hello\n\n");
  });

  it("ends with what is said about an error", async () => {
    const response = eventStream(items(["a"], new Error("no more")), handlers);
    assertEquals(await response.text(), "data: a\n\ndata: failed: Error: no more\n\n");
  });

  it("fills silence with comments and loses nothing", async () => {
    async function* slow() {
      yield "a";
      await new Promise((resolve) => setTimeout(resolve, 100));
      yield "b";
    }
    const text = await eventStream(slow(), handlers, 20).text();
    assertMatch(text, /^data: a\n\n(: keep-alive\n\n)+data: b\n\n$/);
  });

  it("tells when the client goes away, and ends the generator", async () => {
    let cancelled = 0;
    const source = items(["a", "b", "c"]);
    const response = eventStream(source, { ...handlers, onCancel: () => cancelled++ });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    assertEquals(cancelled, 1);
    assertEquals((await source.next()).done, true);
  });
});
