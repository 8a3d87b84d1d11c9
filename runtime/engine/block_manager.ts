/**
 * Which blocks of the KV cache are free, and what the others hold. A block that is full of computed tokens is remembered by its
 * content, so that a later sequence with the same beginning shares it instead of computing it again (vLLM's prefix caching). A block
 * nobody uses keeps its content until its place is needed; the one unused for longest goes first.
 *
 *   content of a block = (content of the block before it, its tokens); the first block's predecessor is the sequence's root, a text that
 *   stands for everything else its keys and values depend on (the base, the adapter).
 */

interface Block {
  readonly id: number;
  /** Sequences that use it. */
  users: number;
  /** Key in #contents, or "" while it is not full or another block holds the same. */
  key: string;
  /** Number that stands for the content, never used twice: part of the next block's key. */
  content: number;
}

/** The part of a sequence that the manager keeps: its blocks, and how many of them are sealed. */
export interface BlockList {
  readonly blocks: number[];
  /** Contents of the full blocks, in order. */
  readonly contents: number[];
}

export class BlockManager {
  readonly total: number;
  readonly blockSize: number;
  readonly #blocks: Block[];
  /** Unused blocks in the order in which they are taken; a Map keeps insertion order. */
  readonly #free = new Map<number, Block>();
  readonly #contents = new Map<string, Block>();
  #nextContent = 1;

  constructor(total: number, blockSize: number) {
    this.total = total;
    this.blockSize = blockSize;
    this.#blocks = Array.from({ length: total }, (_, id) => ({ id, users: 0, key: "", content: 0 }));
    for (const block of this.#blocks) this.#free.set(block.id, block);
  }

  /** Blocks that sequences use now. */
  get used(): number {
    return this.total - this.#free.size;
  }

  /** How many blocks `tokens` tokens need. */
  blocksFor(tokens: number): number {
    return Math.ceil(tokens / this.blockSize);
  }

  /**
   * Gives an empty list the blocks that already hold the beginning of `tokens`.
   * @returns how many tokens that is: whole blocks, and never all tokens, because the last one has to be computed to draw the next
   */
  share(list: BlockList, root: string, tokens: readonly number[]): number {
    const most = Math.floor((tokens.length - 1) / this.blockSize);
    for (let i = 0; i < most; i++) {
      const block = this.#contents.get(this.#key(list, i, root, tokens));
      if (!block) break;
      this.#use(block);
      list.blocks.push(block.id);
      list.contents.push(block.content);
    }
    return list.blocks.length * this.blockSize;
  }

  /**
   * Extends the list until it holds `tokens` tokens.
   * @returns false, with the list unchanged, when too few blocks are free
   */
  grow(list: BlockList, tokens: number): boolean {
    const missing = this.blocksFor(tokens) - list.blocks.length;
    if (missing > this.#free.size) return false;
    for (let i = 0; i < missing; i++) list.blocks.push(this.#take().id);
    return true;
  }

  /** Remembers the blocks that the first `computed` of `tokens` have filled since the last call. */
  seal(list: BlockList, root: string, tokens: readonly number[], computed: number): void {
    for (let i = list.contents.length; i < Math.floor(computed / this.blockSize); i++) {
      const key = this.#key(list, i, root, tokens);
      const known = this.#contents.get(key);
      const block = this.#blocks[list.blocks[i]];
      if (!known) {
        block.key = key;
        block.content = this.#nextContent++;
        this.#contents.set(key, block);
      }
      list.contents.push((known ?? block).content);
    }
  }

  /** Ends the list's use of its blocks and empties it. The end of a text is given up before its beginning. */
  release(list: BlockList): void {
    for (const id of list.blocks.splice(0).reverse()) {
      const block = this.#blocks[id];
      if (--block.users === 0) this.#free.set(id, block);
    }
    list.contents.length = 0;
  }

  #key(list: BlockList, index: number, root: string, tokens: readonly number[]): string {
    const before = index === 0 ? root : list.contents[index - 1];
    return `${before}:${tokens.slice(index * this.blockSize, (index + 1) * this.blockSize).join(",")}`;
  }

  #use(block: Block): void {
    if (block.users++ === 0) this.#free.delete(block.id);
  }

  #take(): Block {
    const [block] = this.#free.values();
    if (block.key !== "") this.#contents.delete(block.key);
    block.key = "";
    this.#use(block);
    return block;
  }
}
