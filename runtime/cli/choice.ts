import { UsageError } from "./command.ts";

/** An integer flag's value, one of a few. */
export function choice<T extends number>(flag: string, received: number, expected: readonly T[]): T {
  const found = expected.find((value) => value === received);
  if (found === undefined) throw new UsageError(`${flag}: received ${received}, expected ${expected.join(", ")}`);
  return found;
}
