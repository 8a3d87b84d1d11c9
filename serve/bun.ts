/** Listening under Bun. */
import type { Listen } from "./listen.ts";

/** Above any body the app accepts: the app itself refuses larger ones, with a proper answer. */
const MAX_BODY_BYTES = 2 ** 31;

export const listenHere: Listen = ({ hostname, port, fetch }) => {
  const server = Bun.serve({
    hostname,
    port,
    fetch,
    maxRequestBodySize: MAX_BODY_BYTES,
    // A long prompt may take minutes before its first token; zero switches the limit off.
    idleTimeout: 0,
    development: false,
    // Outside development Bun shares a port that is in use instead of saying so.
    reusePort: false,
  });
  return {
    port: server.port ?? port,
    drain: () => server.stop(false),
    close: () => server.stop(true),
  };
};
