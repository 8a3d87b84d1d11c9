/** Runs a command that answers with JSON, and watches how much memory it holds and how long it computes. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** A command that failed. */
export class CommandError extends Error {}

const POLL_MS = 500;

/** In which /proc counts a process's time, on every Linux. */
const TICKS_PER_SECOND = 100;

/** The most memory that a process has held so far, or 0 where the system does not tell. */
function highWaterMark(pid) {
  try {
    return 1024 * Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Seconds that all threads of a process have computed so far, or 0 where the system does not tell. */
function cpuTime(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // Behind the name, which may hold anything, comes the state, the third field of the file.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd: string, onLine?: (line: string) => void }} options onLine: what it says on standard error
 * @returns {Promise<{ answer: any, seconds: number, cpuSeconds: number, peakBytes: number }>} the last two: half a second before
 *   its end
 * @throws {CommandError} with the last line of standard error that begins with "error:", or the last one of all
 */
export function runForJson(program, args, { cwd, onLine = () => {} }) {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let reason = "no message";
    let rest = "";
    let peakBytes = 0;
    let cpuSeconds = 0;
    const poll = setInterval(() => {
      cpuSeconds = Math.max(cpuSeconds, cpuTime(child.pid));
      peakBytes = Math.max(peakBytes, highWaterMark(child.pid));
    }, POLL_MS);
    const fail = (why) => reject(new CommandError(`Cannot finish ${program} ${args.join(" ")}: ${why}`));
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      const lines = (rest + text).split(/[\r\n]/);
      rest = lines.pop();
      for (const line of lines.filter((line) => line.trim() !== "")) {
        // What follows an error tells only where there is help.
        if (!reason.startsWith("error:") || line.startsWith("error:")) reason = line.trim();
        onLine(line.trim());
      }
    });
    child.on("error", (error) => {
      clearInterval(poll);
      fail(error.message);
    });
    child.on("close", (status, signal) => {
      clearInterval(poll);
      if (status !== 0) return fail(`${rest.trim() || reason}, received ${signal ?? status}`);
      try {
        resolve({ answer: JSON.parse(stdout), seconds: (performance.now() - begin) / 1000, cpuSeconds, peakBytes });
      } catch {
        fail(`its answer is ${stdout.slice(0, 80)}, expected JSON`);
      }
    });
  });
}
