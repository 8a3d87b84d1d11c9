/** Per-row results as JSON lines. */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { writeFileAtomically } from "../formats/atomic.ts";

/**
 * Runs `body`, which hands in one object for each row by its index, in any order; they are written in order of index. The file is
 * there under its name only when `body` has ended well. Without a path nothing is written.
 *
 * @param data the file that the rows come from, which is not overwritten
 */
export async function withResults<T>(
  path: string | undefined,
  data: string,
  body: (put: (index: number, result: object) => void) => Promise<T>,
): Promise<T> {
  if (path === undefined) return body(() => {});
  if (resolve(path) === resolve(data)) throw new Error(`Cannot write ${path}: it is the data that is read`);
  if (!existsSync(dirname(path))) throw new Error(`Cannot write ${path}: there is no folder ${dirname(path)}`);
  const early = new Map<number, object>();
  let next = 0;
  let value: { result: T } | undefined;
  const encoder = new TextEncoder();
  await writeFileAtomically(path, async (write) => {
    const result = await body((index, row) => {
      early.set(index, row);
      for (let ready = early.get(next); ready !== undefined; ready = early.get(next)) {
        write(encoder.encode(`${JSON.stringify(ready)}\n`));
        early.delete(next++);
      }
    });
    value = { result };
  });
  return (value as { result: T }).result;
}
