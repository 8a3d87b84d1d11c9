/** A text cut into windows of tokens, as perplexity is measured. */

/**
 * The first windows of a token stream: back to back, each of `size` tokens, what is left at the end dropped
 * (the convention of GPTQ, arXiv 2210.17323, and of the papers that compare with it).
 *
 * @param limit how many windows at most
 * @throws Error when the stream does not fill one window
 */
export function tokenWindows(stream: readonly number[], size: number, limit = Number.POSITIVE_INFINITY): number[][] {
  const count = Math.min(limit, Math.floor(stream.length / size));
  if (count < 1) {
    throw new Error(
      `Cannot cut windows of ${size} tokens: received ${stream.length} tokens, expected at least ${size}`,
    );
  }
  return Array.from({ length: count }, (_, i) => stream.slice(i * size, (i + 1) * size));
}
