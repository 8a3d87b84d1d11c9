/** Listening under Deno. */
import type { Listen } from "./listen.ts";

/** The part of Deno's API used here; the project's type definitions are Bun's. */
interface DenoServe {
  serve(
    options: { hostname: string; port: number; signal: AbortSignal; onListen: () => void },
    handler: (request: Request) => Response | Promise<Response>,
  ): { readonly addr: { readonly port: number }; readonly finished: Promise<void>; shutdown(): Promise<void> };
}

declare const Deno: DenoServe;

export const listenHere: Listen = ({ hostname, port, fetch }) => {
  const stop = new AbortController();
  const server = Deno.serve({ hostname, port, signal: stop.signal, onListen: () => {} }, fetch);
  return {
    port: server.addr.port,
    drain: () => server.shutdown(),
    close: async () => {
      stop.abort();
      await server.finished;
    },
  };
};
