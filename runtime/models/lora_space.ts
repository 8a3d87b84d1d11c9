/** Which parts of a pool of bytes are free. The first gap that is large enough is taken: what is used stays near the beginning. */

/** Of every piece: matrices on the device begin on a multiple of it. */
const ALIGNMENT = 64;

interface Gap {
  offset: number;
  bytes: number;
}

export class LoraSpace {
  readonly total: number;
  /** In order of their offsets; two never touch. */
  readonly #gaps: Gap[];
  #used = 0;

  constructor(total: number) {
    this.total = Math.floor(total / ALIGNMENT) * ALIGNMENT;
    this.#gaps = this.total > 0 ? [{ offset: 0, bytes: this.total }] : [];
  }

  /** Bytes in use, rounding included. */
  get used(): number {
    return this.#used;
  }

  /** Takes `bytes` bytes in one piece; undefined when no gap is large enough. */
  take(bytes: number): number | undefined {
    const size = pieceBytes(bytes);
    const at = this.#gaps.findIndex((gap) => gap.bytes >= size);
    if (at < 0) return undefined;
    const gap = this.#gaps[at]!;
    const { offset } = gap;
    gap.offset += size;
    gap.bytes -= size;
    if (gap.bytes === 0) this.#gaps.splice(at, 1);
    this.#used += size;
    return offset;
  }

  /** Gives a piece back, as it was taken. */
  give(offset: number, bytes: number): void {
    const size = pieceBytes(bytes);
    const next = this.#gaps.findIndex((gap) => gap.offset > offset);
    const at = next < 0 ? this.#gaps.length : next;
    this.#gaps.splice(at, 0, { offset, bytes: size });
    this.#join(at);
    if (at > 0) this.#join(at - 1);
    this.#used -= size;
  }

  /** Makes one of the gap at index `at` and the one after it, where they touch. */
  #join(at: number): void {
    const [gap, after] = [this.#gaps[at]!, this.#gaps[at + 1]];
    if (!after || gap.offset + gap.bytes !== after.offset) return;
    gap.bytes += after.bytes;
    this.#gaps.splice(at + 1, 1);
  }
}

function pieceBytes(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / ALIGNMENT)) * ALIGNMENT;
}
