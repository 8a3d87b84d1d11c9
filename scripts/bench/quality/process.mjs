/** Runs a command that answers with JSON, and watches how much memory it holds. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

/** A command that failed. */
export class CommandError extends Error {}

const POLL_MS = 500;

/** The most memory that a process has held so far, or 0 where the system does not tell. */
function highWaterMark(pid) {
  try {
    return 1024 * Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd: string, onLine?: (line: string) => void }} options onLine: what it says on standard error
 * @returns {Promise<{ answer: any, seconds: number, peakBytes: number }>} peakBytes: half a second before its end
 * @throws {CommandError} with the last line of standard error
 */
export function runForJson(program, args, { cwd, onLine = () => {} }) {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let lastLine = "no message";
    let rest = "";
    let peakBytes = 0;
    const poll = setInterval(() => {
      peakBytes = Math.max(peakBytes, highWaterMark(child.pid));
    }, POLL_MS);
    const fail = (reason) => reject(new CommandError(`Cannot finish ${program} ${args.join(" ")}: ${reason}`));
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text) => {
      const lines = (rest + text).split(/[\r\n]/);
      rest = lines.pop();
      for (const line of lines.filter((line) => line.trim() !== "")) {
        lastLine = line.trim();
        onLine(lastLine);
      }
    });
    child.on("error", (error) => {
      clearInterval(poll);
      fail(error.message);
    });
    child.on("close", (status, signal) => {
      clearInterval(poll);
      if (status !== 0) return fail(`${rest.trim() || lastLine}, received ${signal ?? status}`);
      try {
        resolve({ answer: JSON.parse(stdout), seconds: (performance.now() - begin) / 1000, peakBytes });
      } catch {
        fail(`its answer is ${stdout.slice(0, 80)}, expected JSON`);
      }
    });
  });
}
