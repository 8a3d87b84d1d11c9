/** Compiles the native programs of this folder and runs programs that answer with JSON. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Compiled programs and models: large, rebuilt at need, and so outside the repository. */
export const CACHE_DIR = join(tmpdir(), "apiq-bench");

const COMPILER_FLAGS = ["-std=c++20", "-O3", "-pthread"];

/** A program that could not be started or that failed. */
export class ProgramError extends Error {}

/** One word for a shell, quoted only where it has to be. */
const shellWord = (word) => (/^[\w./:=,@+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** The command line as one would type it. */
export const commandLine = (program, args) => [program, ...args].map(shellWord).join(" ");

/**
 * Runs a program to its end and returns what it printed to stdout.
 *
 * @param {string} program
 * @param {readonly string[]} args
 * @param {string} [cwd]
 * @throws {ProgramError} with the last line of stderr
 */
export function run(program, args, cwd) {
  const { error, status, signal, stdout, stderr } = spawnSync(program, args, {
    cwd,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (error) throw new ProgramError(`Cannot run ${program}: ${error.message}`);
  if (status !== 0) {
    const reason = stderr.trim().split("\n").at(-1) || "no message";
    throw new ProgramError(`Cannot finish ${commandLine(program, args)}: ${reason}, received ${signal ?? status}`);
  }
  return stdout;
}

/** As `run`, for a program that prints one JSON value. */
export function runForJson(program, args, cwd) {
  const stdout = run(program, args, cwd);
  try {
    return JSON.parse(stdout);
  } catch {
    throw new ProgramError(
      `Cannot read the answer of ${commandLine(program, args)}: received ${stdout.slice(0, 80)}, expected JSON`,
    );
  }
}

/**
 * Compiles a one-file C++ program of this folder unless that has been done, and returns the program's path.
 * CXX in the environment names another compiler.
 *
 * @param {string} name of the source file, without .cpp
 */
export function compile(name) {
  const source = join(import.meta.dirname, `${name}.cpp`);
  const compiler = process.env.CXX ?? "c++";
  const key = createHash("sha256")
    .update([compiler, ...COMPILER_FLAGS].join(" "))
    .update(readFileSync(source));
  const program = join(CACHE_DIR, `${name}-${key.digest("hex").slice(0, 12)}`);
  if (!existsSync(program)) {
    mkdirSync(CACHE_DIR, { recursive: true });
    const partial = `${program}.partial-${process.pid}`;
    run(compiler, [...COMPILER_FLAGS, source, "-o", partial, "-ldl"]);
    renameSync(partial, program);
  }
  return program;
}
