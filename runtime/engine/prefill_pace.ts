/**
 * How many prompt rows a step may take. Alone, prompts get steps of a fifth of a second, short enough for a cancellation or a new
 * request. Beside running streams a step may last at most twice as long as one that only decodes, so that a stream's tokens never
 * come at less than half their pace while a long prompt enters. Both limits are kept by watching the steps: the number of rows grows
 * while steps are short and shrinks when they are not.
 */
import { MAX_PREFILL_ROWS } from "./engine_shape.ts";
import type { ScheduledRows } from "./scheduler.ts";

const ALONE_SECONDS = 0.2;
const BESIDE_FACTOR = 2;
/** Where both start: cheap on any machine that can run the model at all. */
const FIRST_ROWS = 32;
const GROW = 1.5;
const SHRINK = 0.7;
/** Weight of the newest decode step in the running mean. */
const NEWEST = 0.1;

export class PrefillPace {
  #aloneRows = FIRST_ROWS;
  #besideRows = FIRST_ROWS / 2;
  /** Mean seconds of a step that only decodes, 0 before the first. */
  #decodeSeconds = 0;

  /** Rows for the next step's prompts when `decoding` sequences are drawing tokens. */
  prefillRows(decoding: number): number {
    return Math.floor(decoding > 0 ? this.#besideRows : this.#aloneRows);
  }

  /** Notes how long a step took. */
  learn(rows: readonly ScheduledRows[], seconds: number): void {
    const decoding = rows.filter(({ sequence, count }) => count === 1 && sequence.generated > 0).length;
    const prompt = rows.reduce((sum, { count }) => sum + count, 0) - decoding;
    if (prompt === 0) {
      this.#decodeSeconds += (this.#decodeSeconds === 0 ? 1 : NEWEST) * (seconds - this.#decodeSeconds);
    } else if (decoding === 0) {
      this.#aloneRows = adjust(this.#aloneRows, prompt, seconds, ALONE_SECONDS);
    } else if (this.#decodeSeconds > 0) {
      this.#besideRows = adjust(this.#besideRows, prompt, seconds, BESIDE_FACTOR * this.#decodeSeconds);
    }
  }
}

/** The next number of rows after a step with `used` of the allowed `rows` took `seconds` where `limit` was the aim. */
function adjust(rows: number, used: number, seconds: number, limit: number): number {
  if (seconds > limit) return Math.max(1, Math.min(rows, used) * SHRINK);
  if (used < Math.floor(rows) || seconds > limit / GROW) return rows;
  return Math.min(MAX_PREFILL_ROWS, rows * GROW);
}
