import { once } from "node:events";
import { createConnection } from "node:net";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { listen } from "./listen.ts";
import { eventStream } from "./sse.ts";

const EVENT = "x".repeat(10_000);
/** Socket buffers of both sides and of the runtime; far below what an endless stream would fill in the time. */
const MOST_BYTES_IN_FLIGHT = 32e6;

const hostname = "127.0.0.1";

describe("listen", () => {
  it("takes from a stream only what the client reads, and cancels it when the client goes", async () => {
    let taken = 0;
    const cancelled = Promise.withResolvers<void>();
    async function* endless(): AsyncGenerator<string, void, void> {
      for (;;) {
        taken++;
        yield EVENT;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    const handlers = {
      onError: (error: unknown) => [String(error)],
      onCancel: cancelled.resolve,
      onEnd: () => {},
    };
    const fetch = () => eventStream(endless(), handlers);
    const listener = await listen({ hostname, port: 0, fetch });
    try {
      const socket = createConnection({ host: hostname, port: listener.port });
      await once(socket, "connect");
      socket.pause();
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      let before = -1;
      while (taken !== before) {
        before = taken;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      assert(taken > 0 && taken * EVENT.length < MOST_BYTES_IN_FLIGHT, `took ${taken} events for nobody`);
      socket.destroy();
      await cancelled.promise;
    } finally {
      await listener.close();
    }
  });

  it("aborts the request's signal when the client goes before the answer, whatever the size of the body", async () => {
    for (const size of [10, 2000, 200_000]) {
      const started = Promise.withResolvers<void>();
      const aborted = Promise.withResolvers<void>();
      const listener = await listen({
        hostname,
        port: 0,
        async fetch(request) {
          assertEquals((await request.arrayBuffer()).byteLength, size);
          request.signal.addEventListener("abort", () => aborted.resolve());
          started.resolve();
          await aborted.promise;
          return new Response();
        },
      });
      try {
        const socket = createConnection({ host: hostname, port: listener.port });
        socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n${"y".repeat(size)}`);
        await started.promise;
        socket.destroy();
        await aborted.promise;
      } finally {
        await listener.close();
      }
    }
  });

  it("cancels an answer that comes when its client has gone", async () => {
    const started = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    const listener = await listen({
      hostname,
      port: 0,
      async fetch(request) {
        const aborted = new Promise((resolve) => request.signal.addEventListener("abort", resolve));
        started.resolve();
        await aborted;
        return new Response(new ReadableStream({ cancel: () => cancelled.resolve() }));
      },
    });
    try {
      const socket = createConnection({ host: hostname, port: listener.port });
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
      await started.promise;
      socket.destroy();
      await cancelled.promise;
    } finally {
      await listener.close();
    }
  });

  it("says that a port is in use", async () => {
    const fetch = () => new Response();
    const first = await listen({ hostname, port: 0, fetch });
    try {
      await assertRejects(() => listen({ hostname, port: first.port, fetch }), Error, "the port is in use");
    } finally {
      await first.close();
    }
  });
});
