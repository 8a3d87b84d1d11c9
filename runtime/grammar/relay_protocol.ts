/** What travels between the engine's thread and the relay thread, and the memory they share. */
import type { GrammarProcessArguments } from "./process_protocol.ts";
import type { GrammarSpec } from "./spec.ts";

export interface RelayLimits {
  /** For turning one description into a grammar. */
  compileMs: number;
  /** For one mask. */
  maskMs: number;
}

export interface RelayData {
  process: GrammarProcessArguments;
  limits: RelayLimits;
  shared: SharedArrayBuffer;
  rows: number;
}

/** One row of the mask matrix: a sequence, and the tokens it got since the last time. */
export interface MaskRequest {
  readonly row: number;
  readonly id: string;
  readonly accepted: readonly number[];
}

export type ToRelay =
  | { type: "start"; id: string; spec: GrammarSpec }
  | { type: "masks"; ticket: number; requests: readonly MaskRequest[] }
  | { type: "finish"; id: string };

/** The answer to "start". Masks are answered in shared memory, because the engine's thread then waits without its event loop. */
export interface FromRelay {
  id: string;
  error?: string;
}

const REASON_BYTES = 512;

/**
 * The shared memory:
 *
 *     | finished: int32 | status: int32 [rows] | masks: uint32 [rows, words] | reasons: (length: uint32, UTF-8) [rows] |
 *
 * The relay writes a row's mask or reason, then its status (the request's ticket, negative for a failure), then counts
 * `finished` up and wakes the engine's thread.
 */
export class SharedMasks {
  readonly buffer: SharedArrayBuffer;
  readonly words: number;
  /** uint32 [rows, words]; bit t % 32 of word t / 32 allows token t. */
  readonly masks: Uint32Array;
  readonly #finished: Int32Array;
  readonly #status: Int32Array;
  readonly #reasons: Uint8Array;

  constructor(rows: number, vocabSize: number, buffer?: SharedArrayBuffer) {
    this.words = Math.ceil(vocabSize / 32);
    const masksAt = 4 * (1 + rows);
    const reasonsAt = masksAt + 4 * rows * this.words;
    this.buffer = buffer ?? new SharedArrayBuffer(reasonsAt + rows * REASON_BYTES);
    this.#finished = new Int32Array(this.buffer, 0, 1);
    this.#status = new Int32Array(this.buffer, 4, rows);
    this.masks = new Uint32Array(this.buffer, masksAt, rows * this.words);
    this.#reasons = new Uint8Array(this.buffer, reasonsAt, rows * REASON_BYTES);
  }

  /** @param mask little-endian bytes of `words` uint32 */
  succeed(row: number, ticket: number, mask: Uint8Array): void {
    new Uint8Array(this.buffer, this.masks.byteOffset + 4 * row * this.words, 4 * this.words).set(mask);
    this.#finish(row, ticket);
  }

  fail(row: number, ticket: number, reason: string): void {
    const text = new TextEncoder().encode(reason).subarray(0, REASON_BYTES - 4);
    const at = row * REASON_BYTES;
    new DataView(this.buffer, this.#reasons.byteOffset + at).setUint32(0, text.length, true);
    this.#reasons.set(text, at + 4);
    this.#finish(row, -ticket);
  }

  /** Blocks until the row's request is answered; undefined when `deadline` (in performance.now's time) passes first. */
  wait(row: number, ticket: number, deadline: number): { error?: string } | undefined {
    for (;;) {
      const seen = Atomics.load(this.#finished, 0);
      const status = Atomics.load(this.#status, row);
      if (status === ticket) return {};
      if (status === -ticket) return { error: this.#reason(row) };
      const left = deadline - performance.now();
      if (left <= 0) return undefined;
      Atomics.wait(this.#finished, 0, seen, left);
    }
  }

  #reason(row: number): string {
    const at = this.#reasons.byteOffset + row * REASON_BYTES;
    const length = new DataView(this.buffer, at).getUint32(0, true);
    // A copy: TextDecoder does not read shared memory.
    return new TextDecoder().decode(new Uint8Array(this.buffer, at + 4, length).slice());
  }

  #finish(row: number, status: number): void {
    Atomics.store(this.#status, row, status);
    Atomics.add(this.#finished, 0, 1);
    Atomics.notify(this.#finished, 0);
  }
}
