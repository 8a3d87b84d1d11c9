import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventStream } from "./sse.ts";

async function* items(texts: readonly string[], failure?: Error): AsyncGenerator<string, void, void> {
  yield* texts;
  if (failure) throw failure;
}

const handlers = { onError: (error: unknown) => [`failed: ${error}`], onCancel: () => {}, onEnd: () => {} };

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

  it("tells once that it has ended, however it does", async () => {
    for (const failure of [undefined, new Error("no more")]) {
      let ended = 0;
      await eventStream(items(["a"], failure), { ...handlers, onEnd: () => ended++ }).text();
      assertEquals(ended, 1);
    }
  });

  it("ends when it has to, while its client does not read and its generator waits", async () => {
    for (const waits of [false, true]) {
      let left = false;
      async function* endless(): AsyncGenerator<string, void, void> {
        try {
          yield "a";
          if (waits) await new Promise((resolve) => setTimeout(resolve, 20));
          for (;;) yield "b";
        } finally {
          left = true;
        }
      }
      const ended = Promise.withResolvers<void>();
      const stop = new AbortController();
      const response = eventStream(endless(), { ...handlers, onEnd: ended.resolve, signal: stop.signal });
      await new Promise((resolve) => setTimeout(resolve, 5));
      stop.abort("time is up");
      await ended.promise;
      assertMatch(await response.text(), /^data: a\n\ndata: failed: time is up\n\n$/);
      await new Promise((resolve) => setTimeout(resolve, 30));
      assertEquals(left, true);
    }
  });

  it("tells when the client goes away, and ends the generator", async () => {
    let cancelled = 0;
    let ended = 0;
    const source = items(["a", "b", "c"]);
    const response = eventStream(source, { ...handlers, onCancel: () => cancelled++, onEnd: () => ended++ });
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    assertEquals([cancelled, ended], [1, 1]);
    assertEquals((await source.next()).done, true);
  });
});
