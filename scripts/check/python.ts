/** A Python for the comparisons with PyTorch, where one is installed; nothing here needs it otherwise. */
import { spawnSync } from "node:child_process";
import process from "node:process";

/** A Python that lacks what is asked for: a reason to skip, not to fail. */
export class PythonMissing extends Error {}

/**
 * @param given a program; without one APIQ_PYTHON of the environment, else python3
 * @param modules that it has to have
 * @returns the program
 * @throws {PythonMissing} naming the program and the first module that it cannot find
 */
export function findPython(given: string | undefined, modules: readonly string[]): string {
  const program = given ?? process.env.APIQ_PYTHON ?? "python3";
  // Looking a module up does not run it, which takes seconds for some.
  const script = `import importlib.util, sys; print(*[m for m in sys.argv[1:] if importlib.util.find_spec(m) is None])`;
  const { error, status, stdout, stderr } = spawnSync(program, ["-c", script, ...modules], { encoding: "utf8" });
  if (error) throw new PythonMissing(`${program} cannot be started (${error.message})`);
  if (status !== 0) throw new PythonMissing(`${program} failed (${stderr.trim().split("\n").at(-1)})`);
  const missing = stdout.trim().split(" ").filter(Boolean);
  if (missing.length > 0) throw new PythonMissing(`${program} has no ${missing.join(", ")}`);
  return program;
}

/**
 * Runs a Python script that reads one JSON value and prints one.
 *
 * @throws Error with the last line of its standard error
 */
export function runPython<T>(program: string, script: string, input: object): T {
  const { error, status, signal, stdout, stderr } = spawnSync(program, [script], {
    encoding: "utf8",
    input: JSON.stringify(input),
    maxBuffer: 2 ** 28,
    // No hub is asked for anything.
    env: { ...process.env, HF_HUB_OFFLINE: "1", TRANSFORMERS_VERBOSITY: "error" },
  });
  if (error) throw new Error(`Cannot run ${script}: ${error.message}`);
  if (status !== 0) {
    const reason = stderr.trim().split("\n").at(-1) || "no message";
    throw new Error(`Cannot finish ${script}: ${reason}, received ${signal ?? status}`);
  }
  return JSON.parse(stdout) as T;
}
