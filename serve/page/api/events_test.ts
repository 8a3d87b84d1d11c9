import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventData } from "./events.ts";

/** The data of the events in `bytes`, which come in pieces of that many. */
async function read(bytes: Uint8Array, size: number): Promise<string[]> {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
  const events: string[] = [];
  for await (const data of eventData(body)) events.push(data);
  return events;
}

describe("server-sent events", () => {
  it("are the same however their bytes are cut", async () => {
    const text =
      ": hello\n\ndata: één\n\nevent: x\ndata:two\ndata: lines\n\r\ndata: cr\r\r: bye\n\ndata: [DONE]\r\n\r\ndata: unfinished";
    const bytes = new TextEncoder().encode(text);
    for (let size = 1; size <= bytes.length; size++) {
      assertEquals(await read(bytes, size), ["één", "two\nlines", "cr", "[DONE]"], `pieces of ${size}`);
    }
  });
});
