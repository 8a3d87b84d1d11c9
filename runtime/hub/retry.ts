import { setTimeout as sleep } from "node:timers/promises";
import { HubError, TransientFailure } from "./failure.ts";

export interface RetryPolicy {
  readonly signal: AbortSignal;
  /** Failures in a row that are given up on; six with doubling pauses are about half a minute. */
  readonly attempts?: number;
  /** Waits; tests pass one that does not. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Called before each pause with what went wrong. */
  readonly onWait?: (ms: number, reason: string) => void;
}

const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
/** A server that asks for more is not waited for: nobody would know why nothing happens. */
const LONGEST_RETRY_AFTER_MS = 5 * 60_000;

/**
 * Runs `body` until it succeeds. A `TransientFailure` is tried again after a pause that doubles, with jitter so that parallel
 * downloads do not return in step, or after what the server asked for; any other error is thrown on.
 *
 * @param what completes "Cannot ..." in the error after the last attempt
 * @param body gets a function to call when it made progress: failures are then counted from the start
 */
export async function withRetries<T>(
  what: string,
  policy: RetryPolicy,
  body: (progressed: () => void) => Promise<T>,
): Promise<T> {
  const { signal, attempts = ATTEMPTS, pause = wait, onWait } = policy;
  let failures = 0;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await body(() => {
        failures = 0;
      });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof TransientFailure)) throw error;
      failures++;
      if (failures >= attempts) throw new HubError(`Cannot ${what}: ${error.message}, after ${failures} attempts`);
      const asked = error.retryAfterMs;
      if (asked !== undefined && asked > LONGEST_RETRY_AFTER_MS)
        throw new HubError(`Cannot ${what}: ${error.message} and asks to wait ${Math.ceil(asked / 60_000)} minutes`);
      const backoff = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
      const ms = asked ?? backoff;
      onWait?.(ms, error.message);
      await pause(ms, signal);
    }
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal });
}

/** A Retry-After header, seconds or a date, in milliseconds from `now`; undefined when absent or unreadable. */
export function retryAfterMs(header: string | null, now: number = Date.now()): number | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
