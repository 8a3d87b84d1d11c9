/** A generator that has begun. */

/**
 * Asks `source` for its first item and waits for it for at most `ms`. Throws what the source throws in that time; otherwise
 * the result yields all its items, the first one included.
 */
export async function primed<T>(
  source: AsyncGenerator<T, void, void>,
  ms: number,
): Promise<AsyncGenerator<T, void, void>> {
  const first = source.next();
  // Whoever goes on with it gets the error; nobody may, if the client is gone by then.
  first.catch(() => {});
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    await Promise.race([first, late]);
  } finally {
    clearTimeout(timer);
  }
  async function* all(): AsyncGenerator<T, void, void> {
    try {
      const { done, value } = await first;
      if (done) return;
      yield value;
      yield* source;
    } finally {
      source.return().catch(() => {});
    }
  }
  return all();
}
