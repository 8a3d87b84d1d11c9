/** Lines on their way to a log that may be slow, full or gone: none of that stops the server. */
import type { WriteSome } from "./standard_error.ts";

/** What may wait for a slow reader, in characters. Lines beyond it are lost. */
const MAX_WAITING = 1 << 20;
/** How long the end of the program waits for the last lines. */
const FLUSH_MS = 500;

export class LineWriter {
  readonly #writeSome: WriteSome;
  #waiting: string[] = [];
  #length = 0;
  #writing: Promise<void> | undefined;

  constructor(writeSome: WriteSome) {
    this.#writeSome = writeSome;
  }

  /** Never throws and never waits. */
  write(line: string): void {
    if (this.#length + line.length > MAX_WAITING) return;
    this.#waiting.push(line);
    this.#length += line.length;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves when all lines are written, or after a moment. */
  async flush(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, FLUSH_MS);
    });
    await Promise.race([this.#writing, late]);
    clearTimeout(timer);
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const text = this.#waiting.join("");
      this.#waiting = [];
      try {
        await this.#writeBytes(new TextEncoder().encode(text));
      } catch {
        // These lines are lost; later ones may not be.
      }
      this.#length -= text.length;
    }
    this.#writing = undefined;
  }

  async #writeBytes(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) at += await this.#writeSome(bytes.subarray(at));
  }
}
