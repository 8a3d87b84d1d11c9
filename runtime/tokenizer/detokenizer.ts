/** Text of a growing sequence of tokens, piece by piece. */

export type Decode = (ids: readonly number[]) => string;

const REPLACEMENT = "\uFFFD";
/** More tokens than any character has bytes: whatever is still pending then is not valid UTF-8 and never will be. */
const MAX_PENDING = 8;

/**
 * Turns token ids into text deltas whose concatenation, with `flush()`, is the text of all tokens decoded at once.
 *
 * A token's text depends on its neighbours (a character may be spread over several tokens, a leading space may be dropped at
 * the start of a text), so each step decodes a short window: the tokens of the previous piece, for context, and the pending
 * ones after them. A character's bytes are held back until all of them are there. Constant time per token.
 */
export class Detokenizer {
  readonly #decode: Decode;
  readonly #isSkipped: (id: number) => boolean;
  #context: number[] = [];
  #pending: number[] = [];
  /** Length of the window's text that has been returned already. */
  #emitted = 0;

  /** @param isSkipped tokens that have no text, such as special ones; `decode` never sees them */
  constructor(decode: Decode, isSkipped: (id: number) => boolean) {
    this.#decode = decode;
    this.#isSkipped = isSkipped;
  }

  /** The text that `id` completes; empty while a character is incomplete. */
  push(id: number): string {
    if (this.#isSkipped(id)) return "";
    this.#pending.push(id);
    const text = this.#windowText();
    // Only the last replacement character can stand for bytes that are still incomplete.
    const incomplete = text.endsWith(REPLACEMENT);
    const end = incomplete ? text.length - 1 : text.length;
    const delta = text.slice(this.#emitted, end);
    this.#emitted = Math.max(this.#emitted, end);
    if (!incomplete) this.#moveTo(this.#pending.length, text);
    else if (this.#pending.length > MAX_PENDING) this.#moveTo(this.#pending.length - MAX_PENDING / 2, text);
    return delta;
  }

  /** What was held back, incomplete characters as U+FFFD. The next `push` starts a new text. */
  flush(): string {
    const rest = this.#windowText().slice(this.#emitted);
    this.#context = [];
    this.#pending = [];
    this.#emitted = 0;
    return rest;
  }

  #windowText(): string {
    return this.#decode([...this.#context, ...this.#pending]);
  }

  /** The first `count` pending tokens become the context, unless that would cut through a character. */
  #moveTo(count: number, text: string): void {
    const context = this.#pending.slice(0, count);
    const pending = this.#pending.slice(count);
    const before = this.#decode([...this.#context, ...context]);
    const after = this.#decode([...context, ...pending]);
    const contextText = this.#decode(context);
    if (before + after.slice(contextText.length) !== text) return;
    this.#emitted = contextText.length + (this.#emitted - before.length);
    this.#context = context;
    this.#pending = pending;
  }
}
