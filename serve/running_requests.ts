/** The requests that are being answered, so that a server that is told to stop can let them finish, and end those that do not. */
import { shuttingDown } from "./errors.ts";
import type { RequestRecord } from "./request_record.ts";

/** What a client that is told of the end needs to read it. */
const FAREWELL_MS = 1000;

export class RunningRequests {
  readonly #running = new Set<RequestRecord>();
  #draining = false;
  #wake = () => {};

  /** True once no new work is taken. */
  get draining(): boolean {
    return this.#draining;
  }

  add(record: RequestRecord): void {
    this.#running.add(record);
    record.whenEnded(() => {
      this.#running.delete(record);
      if (this.#running.size === 0) this.#wake();
    });
  }

  /** Resolves when all have ended: by themselves within `ms`, or else by being stopped. */
  async drain(ms: number): Promise<void> {
    this.#draining = true;
    await this.#empty(ms);
    for (const record of this.#running) record.stop(shuttingDown());
    await this.#empty(FAREWELL_MS);
  }

  async #empty(ms: number): Promise<void> {
    if (this.#running.size === 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }
}
