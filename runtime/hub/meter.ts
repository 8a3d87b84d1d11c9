export interface PullProgress {
  /** Bytes fetched by this pull, not counting what an earlier one left. */
  readonly done: number;
  /** Bytes that this pull has to fetch. */
  readonly total: number;
  /** Over the last seconds. */
  readonly bytesPerSecond: number;
  /** Why nothing happens just now, when one of the downloads waits before another try. */
  readonly waiting: string | undefined;
}

/** The speed is taken over this time: long enough to be steady, short enough to show a line that slows down. */
const WINDOW_MS = 5000;
const SAMPLE_MS = 250;

/** Adds up what the parallel downloads report. */
export class Meter {
  readonly #report: ((progress: PullProgress) => void) | undefined;
  readonly #now: () => number;
  #totalBytes = 0;
  /** Bytes on the disk, by file, now and at the start: a file that is started again has none left from earlier. */
  #present: number[] = [];
  #atStart: number[] = [];
  #samples: { readonly at: number; readonly done: number }[] = [];
  #waiting: { readonly until: number; readonly reason: string } | undefined;

  constructor(report?: (progress: PullProgress) => void, now: () => number = () => performance.now()) {
    this.#report = report;
    this.#now = now;
  }

  /** `present`: bytes on the disk before the pull, by file. */
  start(totalBytes: number, present: readonly number[]): void {
    this.#totalBytes = totalBytes;
    this.#present = [...present];
    this.#atStart = [...present];
    this.#samples = [{ at: this.#now(), done: 0 }];
    this.#tell();
  }

  /** The file of this index has so many bytes on the disk. */
  update(index: number, bytes: number): void {
    this.#present[index] = bytes;
    if (bytes < this.#atStart[index]!) this.#atStart[index] = bytes;
    this.#tell();
  }

  /** A download, or the listing before the first, is tried again after `ms`. */
  wait(ms: number, reason: string): void {
    this.#waiting = { until: this.#now() + ms, reason };
    this.#tell();
  }

  #tell(): void {
    if (!this.#report) return;
    const now = this.#now();
    const before = this.#atStart.reduce((sum, bytes) => sum + bytes, 0);
    const done = this.#present.reduce((sum, bytes) => sum + bytes, 0) - before;
    const last = this.#samples.at(-1);
    if (!last || now - last.at >= SAMPLE_MS) this.#samples.push({ at: now, done });
    while (this.#samples.length > 1 && now - this.#samples[0]!.at > WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0]!;
    const seconds = (now - first.at) / 1000;
    const bytesPerSecond = seconds > 0 ? Math.max(0, done - first.done) / seconds : 0;
    const waiting = this.#waiting && this.#waiting.until > now ? this.#waiting.reason : undefined;
    this.#report({ done, total: this.#totalBytes - before, bytesPerSecond, waiting });
  }
}
