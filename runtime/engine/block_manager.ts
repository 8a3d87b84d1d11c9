/** Which blocks of the KV cache are free. Blocks are numbered from 0; a sequence owns the blocks its tokens lie in. */
export class BlockManager {
  readonly total: number;
  readonly blockSize: number;
  readonly #free: number[];

  constructor(total: number, blockSize: number) {
    this.total = total;
    this.blockSize = blockSize;
    // Taken from the end: low numbers first, so that a small load touches little memory.
    this.#free = Array.from({ length: total }, (_, i) => total - 1 - i);
  }

  get used(): number {
    return this.total - this.#free.length;
  }

  /** How many blocks `tokens` tokens need. */
  blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.blockSize);
  }

  /**
   * Extends `blocks` until it holds `tokens` tokens.
   * @returns false, with `blocks` unchanged, when too few are free
   */
  grow(blocks: number[], tokens: number): boolean {
    const missing = this.blocksFor(tokens) - blocks.length;
    if (missing > this.#free.length) return false;
    for (let i = 0; i < missing; i++) blocks.push(this.#free.pop() as number);
    return true;
  }

  /** Gives all of a sequence's blocks back and empties the list. */
  release(blocks: number[]): void {
    for (const block of blocks.splice(0).reverse()) this.#free.push(block);
  }
}
