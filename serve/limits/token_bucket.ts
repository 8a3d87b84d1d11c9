/** A rate limit that allows bursts: https://en.wikipedia.org/wiki/Token_bucket, filled continuously. */

const MINUTE_MS = 60_000;

export class TokenBucket {
  /** What may be taken in a minute, and at once from a full bucket. */
  readonly perMinute: number;
  readonly #now: () => number;
  #level: number;
  #at: number;

  /** `now`: a clock in milliseconds that is never set, so that nobody is let in or kept out by a change of the date. */
  constructor(perMinute: number, now: () => number = () => performance.now()) {
    this.perMinute = perMinute;
    this.#now = now;
    this.#level = perMinute;
    this.#at = now();
  }

  /** Takes `amount`, even if it is not there: what is known only afterwards makes a debt that has to be waited off. */
  take(amount: number): void {
    this.#fill();
    this.#level -= amount;
  }

  /** Whole units that are there. */
  get remaining(): number {
    this.#fill();
    return Math.max(0, Math.floor(this.#level));
  }

  /** Milliseconds until a unit is there; 0: now. */
  get waitMs(): number {
    this.#fill();
    return this.#timeTo(1);
  }

  /** Milliseconds until it is full. */
  get resetMs(): number {
    this.#fill();
    return this.#timeTo(this.perMinute);
  }

  #timeTo(level: number): number {
    return Math.max(0, ((level - this.#level) * MINUTE_MS) / this.perMinute);
  }

  #fill(): void {
    const now = this.#now();
    this.#level = Math.min(this.perMinute, this.#level + ((now - this.#at) * this.perMinute) / MINUTE_MS);
    this.#at = now;
  }
}
