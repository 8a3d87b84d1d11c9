/** Several files of examples in one run, each in its own format, of each all examples or some. */
import { existsSync } from "node:fs";
import { readDataset } from "./dataset.ts";
import type { Dataset, DatasetOptions } from "./example.ts";
import { chooseExamples } from "./order.ts";

export interface DataFile {
  readonly file: string;
  /** Of its examples: below 1 a share, else how many at most; null: all. */
  readonly amount: number | null;
}

/**
 * FILE, or FILE@AMOUNT. A file that has such a name is meant as a whole.
 *
 * @throws {RangeError} for an amount that is neither a share nor a count
 */
export function parseDataFile(text: string): DataFile {
  const at = text.lastIndexOf("@");
  const number = text.slice(at + 1);
  if (at <= 0 || existsSync(text) || !/^[\d.]+$/.test(number)) return { file: text, amount: null };
  const amount = Number(number);
  if (amount > 0 && (amount < 1 || Number.isSafeInteger(amount))) return { file: text.slice(0, at), amount };
  throw new RangeError(`Cannot use --data ${text}: received ${number}, expected a share below 1 or a whole number`);
}

/**
 * Reads them one after the other.
 *
 * @param seed decides which examples of a file are taken; they keep its order
 */
export function readMixture(
  files: readonly DataFile[],
  options: Omit<DatasetOptions, "file">,
  seed: number,
): readonly Dataset[] {
  return files.map(({ file, amount }, index) => {
    const data = readDataset({ ...options, file });
    if (amount === null) return data;
    const examples = chooseExamples(data.examples, amount, seed, index);
    return { ...data, examples, truncated: examples.filter(({ cut }) => cut).length };
  });
}
