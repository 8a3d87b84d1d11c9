/** Ends a text at the first stop string, wherever the pieces it arrives in are cut. */

export class StopStrings {
  readonly #stops: readonly string[];
  #held = "";

  /** `stops`: non-empty strings. */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /**
   * Takes the next piece and returns what may be shown of the text: nothing from a stop string on, and not yet an ending that
   * could turn into one. `stopped` says that a stop string is complete. Of several, the one that is complete first counts
   * (of those the longest), so the result does not depend on how the text was cut into pieces.
   */
  push(piece: string): { text: string; stopped: boolean } {
    const text = this.#held + piece;
    const start = this.#firstStop(text);
    if (start !== undefined) {
      this.#held = "";
      return { text: text.slice(0, start), stopped: true };
    }
    const held = this.#possibleStart(text);
    this.#held = text.slice(text.length - held);
    return { text: text.slice(0, text.length - held), stopped: false };
  }

  /** The text has ended otherwise: what was held back is part of it. */
  flush(): string {
    const text = this.#held;
    this.#held = "";
    return text;
  }

  #firstStop(text: string): number | undefined {
    let bestStart: number | undefined;
    let bestEnd = Number.POSITIVE_INFINITY;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (end < bestEnd || (end === bestEnd && start < (bestStart ?? 0))) {
        bestStart = start;
        bestEnd = end;
      }
    }
    return bestStart;
  }

  /** Length of the longest ending of `text` that begins a stop string. */
  #possibleStart(text: string): number {
    let longest = 0;
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
