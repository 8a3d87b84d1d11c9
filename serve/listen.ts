/** One way to listen, whichever runtime this is. */
import process from "node:process";

export interface ListenOptions {
  readonly hostname: string;
  /** 0 takes any free port. */
  readonly port: number;
  fetch(request: Request): Response | Promise<Response>;
}

export interface Listener {
  readonly port: number;
  /** Takes no new connection; resolves when the running requests are answered. */
  drain(): Promise<void>;
  /** Cuts the connections that are left. */
  close(): Promise<void>;
}

/** An adapter per runtime implements this; it throws whatever its runtime throws. */
export type Listen = (options: ListenOptions) => Listener | Promise<Listener>;

/** Starts to listen. Throws an Error that names the address when it cannot be had. */
export async function listen(options: ListenOptions): Promise<Listener> {
  const adapter = process.versions.bun === undefined ? import("./deno.ts") : import("./bun.ts");
  const { listenHere } = await adapter;
  try {
    return await listenHere(options);
  } catch (error) {
    throw new Error(`Cannot listen on ${options.hostname}:${options.port}: ${reasonOf(error)}`, { cause: error });
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") return "the port is in use, choose another with --port";
  if (code === "EACCES") return "it is not permitted, choose a port above 1023";
  return error.message;
}
