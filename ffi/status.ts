/** The one place where a native status becomes an Error with the library's own text. */

import { STATUS } from "./constants.ts";
import type { NativeFunctions } from "./types.ts";

export type StatusName = keyof typeof STATUS;

/** A call that the library refused or could not do. `message` ends with the library's own words. */
export class ApiqError extends Error {
  override readonly name = "ApiqError";
  readonly status: StatusName;
  /** What was asked for, as in "run rmsNorm" or "upload to the buffer". */
  readonly operation: string;

  constructor(status: StatusName, operation: string, reason: string) {
    super(`Cannot ${operation}: ${reason} (${status})`);
    this.status = status;
    this.operation = operation;
  }
}

const NAMES = new Map<number, StatusName>(Object.entries(STATUS).map(([name, code]) => [code, name as StatusName]));
const decoder = new TextDecoder();

/** Throws unless `status` is OK. `context` is the handle whose last error says why, 0 for calls without a context. */
export function unwrap(native: NativeFunctions, status: number, operation: string, context: number): void {
  if (status === STATUS.OK) return;
  // A context that does not exist has no text of its own: then the thread's does it.
  const reason = lastError(native, context) || (context !== 0 && lastError(native, 0)) || "the library gives no reason";
  throw new ApiqError(NAMES.get(status) ?? "INTERNAL", operation, reason);
}

function lastError(native: NativeFunctions, context: number): string {
  const text = readText((utf8, capacity, bytes) => native.apiq_last_error(context, utf8, capacity, bytes));
  return text.status === STATUS.OK ? text.value : "";
}

/** Calls a function that writes at most `capacity` bytes of UTF-8 and reports the full length, until the text fits. */
export function readText(read: (utf8: Uint8Array, capacity: number, bytes: Uint8Array) => number): {
  status: number;
  value: string;
} {
  const length = new BigUint64Array(1);
  for (let capacity = 1024; ; capacity = Number(length[0])) {
    const utf8 = new Uint8Array(capacity);
    const status = read(utf8, capacity, new Uint8Array(length.buffer));
    if (status !== STATUS.OK) return { status, value: "" };
    if (Number(length[0]) <= capacity) return { status, value: decoder.decode(utf8.subarray(0, Number(length[0]))) };
  }
}
