/** Several generators as one. */

/**
 * Items as they come, each with the index of the source it is from. No source is asked for an item before its last one was
 * taken. Sources come in groups of `groupSize`: the first of a group is started at once, the others when it has yielded (or
 * ended). Ends when all have ended; throws what the first to fail throws. A consumer that leaves early ends the sources, but
 * for those that wait for something: they have to be ended from where that comes from.
 */
export async function* interleave<T>(
  sources: readonly AsyncGenerator<T, void, void>[],
  groupSize: number,
): AsyncGenerator<readonly [index: number, item: T], void, void> {
  const arrived: (readonly [index: number, result: IteratorResult<T, void>])[] = [];
  let failure: { readonly error: unknown } | undefined;
  let wake = () => {};
  const pull = (index: number) => {
    sources[index]?.next().then(
      (result) => {
        arrived.push([index, result]);
        wake();
      },
      (error: unknown) => {
        failure ??= { error };
        wake();
      },
    );
  };
  const followed = new Set<number>();
  const startFollowers = (leader: number) => {
    if (leader % groupSize !== 0 || followed.has(leader)) return;
    followed.add(leader);
    for (let index = leader + 1; index < leader + groupSize; index++) pull(index);
  };

  for (let leader = 0; leader < sources.length; leader += groupSize) pull(leader);
  let open = sources.length;
  try {
    while (open > 0) {
      while (arrived.length === 0 && !failure) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (failure) throw failure.error;
      for (const [index, result] of arrived.splice(0)) {
        startFollowers(index);
        if (result.done) {
          open--;
          continue;
        }
        yield [index, result.value];
        pull(index);
      }
    }
  } finally {
    // Not waited for: one that waits for its next item answers only when it gets it.
    for (const source of sources) source.return().catch(() => {});
  }
}
