/**
 * Listening under Deno, through node:http. Deno.serve would be shorter, but (2.9) it notices that a client has gone only when
 * it writes to it, unless the request's body came in the same packet as its head: an answer that is not streamed would be
 * computed to its end for nobody.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Readable } from "node:stream";
import type { Listen, ListenOptions } from "./listen.ts";

export const listenHere: Listen = async ({ hostname, port, fetch }) => {
  const server = createServer((incoming, outgoing) => void answer(incoming, outgoing, fetch));
  server.listen(port, hostname);
  // Rejects with the error if the address cannot be had.
  await once(server, "listening");
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    drain: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      }),
    close: async () => server.closeAllConnections(),
  };
};

/** Answers one request. A client that goes away aborts the request's signal and cancels the response's body. */
async function answer(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  fetch: ListenOptions["fetch"],
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => {
    if (!outgoing.writableFinished) gone.abort();
  });
  let response: Response | undefined;
  try {
    response = await fetch(toRequest(incoming, gone.signal));
    if (gone.signal.aborted) return await response.body?.cancel();
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    outgoing.flushHeaders();
    if (response.body) await send(response.body, outgoing, gone.signal);
    outgoing.end();
  } catch {
    // The app answers its own errors; what is left is a request that is no request, or a connection that broke.
    // A body that is being sent is cancelled when the client is gone; that cannot be done twice.
    await response?.body?.cancel().catch(() => {});
    if (!outgoing.headersSent) outgoing.writeHead(400);
    outgoing.end();
  }
}

function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    for (const one of [value ?? []].flat()) headers.append(name, one);
  }
  const method = incoming.method ?? "GET";
  const url = new URL(incoming.url ?? "/", `http://${incoming.headers.host ?? "localhost"}`);
  if (method === "GET" || method === "HEAD") return new Request(url.href, { method, headers, signal });
  // The two type definitions of web streams differ in what they call a reader; the streams are the same.
  const body = Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array>;
  const init: RequestInit & { duplex: "half" } = { method, headers, signal, body, duplex: "half" };
  return new Request(url.href, init);
}

/** Writes a body as fast as the client reads it and no faster. */
async function send(body: ReadableStream<Uint8Array>, outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  const reader = body.getReader();
  const onGone = () => void reader.cancel();
  gone.addEventListener("abort", onGone, { once: true });
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    if (!outgoing.write(next.value)) await once(outgoing, "drain", { signal: gone });
  }
  gone.removeEventListener("abort", onGone);
}
