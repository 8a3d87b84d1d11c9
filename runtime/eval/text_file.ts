import { Buffer } from "node:buffer";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { decodeUtf8 } from "../formats/json.ts";

const CHUNK_BYTES = 2 ** 20;
/** Of a line: what is longer is no file of lines. */
const LONGEST_LINE = 64 * 2 ** 20;
const NEWLINE = 10;

/** @throws Error naming the file when it cannot be read or is not UTF-8 */
export function readText(path: string): string {
  return decodeUtf8(
    attempt(path, () => readFileSync(path)),
    path,
  );
}

/** The first `count` characters that are no white space, of those near the beginning of a file: what tells its format. */
export function firstCharacters(path: string, count: number): string {
  const file = attempt(path, () => openSync(path, "r"));
  try {
    const start = new Uint8Array(CHUNK_BYTES);
    const held = attempt(path, () => readSync(file, start));
    return new TextDecoder().decode(start.subarray(0, held)).replaceAll(/\s+/g, "").slice(0, count);
  } finally {
    closeSync(file);
  }
}

export interface Line {
  /** Without its end, LF or CRLF; null where its bytes are not UTF-8. */
  readonly text: string | null;
  /** From 1. */
  readonly number: number;
  /** Whether a line's end follows; of the last it may not. */
  readonly ended: boolean;
}

/**
 * Yields the lines of a file of any size, without a byte-order mark; what follows the last line's end is a line unless it is empty.
 *
 * @throws Error naming the file when it cannot be read, and the line when it is too long to be one
 */
export function* readLines(path: string): Generator<Line, void, void> {
  const file = attempt(path, () => openSync(path, "r"));
  try {
    const chunk = new Uint8Array(CHUNK_BYTES);
    // Of the first line alone, a byte-order mark is no text.
    let decoder = new TextDecoder("utf-8", { fatal: true });
    let number = 1;
    let begun: Uint8Array[] = [];
    let begunBytes = 0;
    for (;;) {
      const held = attempt(path, () => readSync(file, chunk));
      if (held === 0) break;
      let from = 0;
      for (let end = chunk.indexOf(NEWLINE); end >= 0 && end < held; end = chunk.indexOf(NEWLINE, from)) {
        yield { text: lineText([...begun, chunk.subarray(from, end)], decoder), number, ended: true };
        if (number === 1) decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
        number++;
        from = end + 1;
        begun = [];
        begunBytes = 0;
      }
      begun.push(chunk.slice(from, held));
      begunBytes += held - from;
      if (begunBytes > LONGEST_LINE) {
        throw new Error(
          `Cannot read ${path}:${number}: the line is longer than ${LONGEST_LINE} bytes, expected a file of lines`,
        );
      }
    }
    if (begunBytes > 0) yield { text: lineText(begun, decoder), number, ended: false };
  } finally {
    closeSync(file);
  }
}

function lineText(parts: readonly Uint8Array[], decoder: TextDecoder): string | null {
  try {
    const text = decoder.decode(parts.length === 1 ? parts[0] : Buffer.concat(parts));
    return text.endsWith("\r") ? text.slice(0, -1) : text;
  } catch {
    return null;
  }
}

function attempt<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new Error(`Cannot read ${path}: ${missing ? "it does not exist" : (error as Error).message}`);
  }
}
