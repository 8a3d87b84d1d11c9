/** Request bodies: bounded, JSON in UTF-8. */
import type { Context, MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { ApiError, invalidRequest } from "./errors.ts";

/** Refuses bodies that are too large, trickle in or break off. Reads the body; whoever asks for it later has it at once. */
export function readBody(maxBytes: number, seconds: number): MiddlewareHandler {
  const limited = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      const message = `Cannot read request: its body is too large, expected at most ${maxBytes} bytes`;
      throw new ApiError(413, "request_too_large", message);
    },
  });
  const read = async (c: Context) => {
    try {
      await limited(c, async () => void (await c.req.arrayBuffer()));
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw invalidRequest("Cannot read request: its body ended too early", null, "invalid_json");
    }
  };
  return async (c, next) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `Cannot read request: its body took longer than ${seconds} s (--body-timeout)`;
      const error = new ApiError(408, "body_timeout", message, null, { connection: "close" });
      timer = setTimeout(() => reject(error), seconds * 1000);
    });
    try {
      await Promise.race([late, read(c)]);
    } finally {
      clearTimeout(timer);
    }
    await next();
  };
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];

/**
 * Deepest nesting of a body. Far beyond what any route takes, and far below what makes functions that call themselves, such as
 * JSON.stringify, run out of stack.
 */
const MAX_DEPTH = 256;

/** The body as JSON. Throws an ApiError if it is not UTF-8, not JSON or nested too deeply. */
export async function readJson(c: Context): Promise<unknown> {
  const bytes = await c.req.arrayBuffer();
  if (nesting(new Uint8Array(bytes)) > MAX_DEPTH) {
    const message = `Cannot read request: its body is nested too deeply, expected at most ${MAX_DEPTH} levels`;
    throw invalidRequest(message, null, "invalid_json");
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidRequest(`Cannot read request: its body is not JSON in UTF-8 (${reason})`, null, "invalid_json");
  }
}

/** The deepest nesting of JSON text. Of what is not JSON, any number. */
function nesting(bytes: Uint8Array): number {
  let deepest = 0;
  let depth = 0;
  let inString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (inString) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth--;
  }
  return deepest;
}
