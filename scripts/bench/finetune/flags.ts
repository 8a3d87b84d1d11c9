/** Flags of the benchmarks in this folder. */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";

/** A mistake on the command line. */
export class UsageError extends Error {}

export function parseFlags<const T extends ParseArgsOptionsConfig>(options: T) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

export function integer(text: string, flag: string, least: number): number {
  const value = /^\d{1,7}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least) return value;
  throw new UsageError(`Cannot read ${flag}: received ${text}, expected an integer from ${least}`);
}

/** One of several integers. */
export function oneOf<const T extends number>(text: string, flag: string, expected: readonly T[]): T {
  const value = expected.find((each) => String(each) === text);
  if (value !== undefined) return value;
  throw new UsageError(`Cannot read ${flag}: received ${text}, expected ${expected.join(", ")}`);
}

/** Runs a script that reads one JSON value and prints one, in a process of its own. */
export function runScript<T>(script: string, input: object): T {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ["run", script], {
    encoding: "utf8",
    input: JSON.stringify(input),
    maxBuffer: 2 ** 26,
  });
  if (status === 0) return JSON.parse(stdout) as T;
  throw new Error(`Cannot finish ${script} (${signal ?? status}): ${stderr.trim().split("\n").slice(-4).join("\n")}`);
}

export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Runs `main`; a mistake on the command line ends with exit code 2. */
export async function runMain(main: () => Promise<void>, help: string): Promise<void> {
  if (process.argv.includes("--help")) {
    console.log(help);
    return;
  }
  try {
    await main();
  } catch (error) {
    progress("");
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\nTry --help`);
    process.exitCode = 2;
  }
}
