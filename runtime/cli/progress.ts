/** A one-line progress bar with the time left. */
import { formatBytes, formatDuration } from "./format.ts";
import type { TextSink } from "./output.ts";

const BAR_WIDTH = 24;
/** Redrawing more often than this flickers and costs time in tight loops. */
const REDRAW_MS = 100;

export class Progress implements Disposable {
  readonly #sink: TextSink;
  readonly #unit: string;
  readonly #startedAt: number;
  readonly #now: () => number;
  #label: string;
  #total: number;
  #drawnAt = Number.NEGATIVE_INFINITY;
  #ended = false;

  constructor(sink: TextSink, label: string, total: number, unit: string, now: () => number = () => performance.now()) {
    this.#sink = sink;
    this.#label = label;
    this.#total = total;
    this.#unit = unit;
    this.#now = now;
    this.#startedAt = now();
  }

  /** `done` of the total are finished. A label or total given here replaces the one before. */
  update(done: number, changed: { label?: string; total?: number } = {}): void {
    this.#label = changed.label ?? this.#label;
    this.#total = changed.total ?? this.#total;
    if (!this.#sink.isTTY || this.#ended) return;
    const now = this.#now();
    if (now - this.#drawnAt < REDRAW_MS && done < this.#total) return;
    this.#drawnAt = now;
    this.#sink.write(`\r\x1b[2K${this.#render(done, (now - this.#startedAt) / 1000)}`);
  }

  /** Removes the bar until the next update, so that something can be printed above it. */
  clear(): void {
    this.#drawnAt = Number.NEGATIVE_INFINITY;
    if (this.#sink.isTTY && !this.#ended) this.#sink.write("\r\x1b[2K");
  }

  /** Removes the bar; the line is free for the result. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#sink.isTTY) this.#sink.write("\r\x1b[2K");
  }

  [Symbol.dispose](): void {
    this.end();
  }

  #render(done: number, seconds: number): string {
    const share = this.#total > 0 ? Math.min(1, done / this.#total) : 0;
    const filled = Math.round(share * BAR_WIDTH);
    const bar = "█".repeat(filled) + "░".repeat(BAR_WIDTH - filled);
    const left = share > 0 && share < 1 ? `, ${formatDuration((seconds / share) * (1 - share))} left` : "";
    const text = `${this.#label} ${bar} ${this.#amount(done, share)}${left}`;
    return text.slice(0, (this.#sink.columns || 80) - 1);
  }

  #amount(done: number, share: number): string {
    switch (this.#unit) {
      case "percent":
        return `${Math.floor(100 * share)} %`;
      case "bytes":
        return `${formatBytes(done)}/${formatBytes(this.#total)}`;
      default:
        return `${done}/${this.#total}${this.#unit && ` ${this.#unit}`}`;
    }
  }
}
