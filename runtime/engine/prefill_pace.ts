/**
 * How many prompt rows a step may take. Alone, prompts get steps of a fifth of a second, short enough for a cancellation or a new
 * request. Beside running streams a step aims to last at most twice as long as one that only decodes, so that a stream's tokens
 * come at half their pace or better while a long prompt enters; a step that something else slows down lasts longer. What a row
 * costs is learned from the steps themselves.
 */
import { MAX_PREFILL_ROWS } from "./engine_shape.ts";
import type { ScheduledRows } from "./scheduler.ts";

const ALONE_SECONDS = 0.2;
const BESIDE_FACTOR = 2;
/** Where both start: cheap on any machine that can run the model at all. */
const FIRST_ROWS = 32;
/** At most so many times the rows of the last step: a row's cost is known only near where it was measured. */
const GROWTH = 2;
/** Aim so far below the limit, because steps vary. */
const MARGIN = 0.9;
/** Weight of the newest decode step in the running mean. */
const NEWEST = 0.1;

export class PrefillPace {
  #aloneRows = FIRST_ROWS;
  #besideRows = FIRST_ROWS / 8;
  /** Mean seconds of a step that only decodes, 0 before the first. */
  #decodeSeconds = 0;
  readonly #watched: boolean;

  /** @param watched whether streams beside a prompt are to keep their pace; if not, it may take as long as if it were alone */
  constructor(watched = true) {
    this.#watched = watched;
  }

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
    } else if (this.#decodeSeconds > 0 || !this.#watched) {
      const extra = Math.max(0, seconds - this.#decodeSeconds);
      const limit = this.#watched ? (BESIDE_FACTOR - 1) * this.#decodeSeconds : ALONE_SECONDS;
      this.#besideRows = adjust(this.#besideRows, prompt, extra, limit);
    }
  }
}

/** The next number of rows, after `used` of the allowed `rows` took `spent` seconds where `limit` was allowed. */
function adjust(rows: number, used: number, spent: number, limit: number): number {
  // The end of a prompt fills no step: it shows that so few rows are cheap enough, not that more would not be.
  if (used < Math.floor(rows) && spent <= limit) return rows;
  const affordable = spent === 0 ? Number.POSITIVE_INFINITY : (MARGIN * limit * used) / spent;
  return Math.max(1, Math.min(affordable, used * GROWTH, MAX_PREFILL_ROWS));
}
