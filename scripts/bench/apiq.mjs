/** The apiq side: `scripts/apiq bench` in a process of its own. */
import { join } from "node:path";
import { commandLine, ProgramError, runForJson } from "./programs.mjs";

const REPOSITORY = join(import.meta.dirname, "..", "..");
const PROGRAM = join("scripts", "apiq");

/**
 * One timed run: 2-bit linears in groups of 64 under an 8-bit head.
 *
 * @param {string} shapeName
 * @param {{ threads: number, promptTokens: number, decodeSteps: number }} options
 * @returns {{ command: string, result: object } | { command: string, unavailable: string }} unavailable: why it failed
 */
export function runApiq(shapeName, { threads, promptTokens, decodeSteps }) {
  const args = [
    ...["bench", "--shape", shapeName, "--bits", "2", "--group-size", "64", "--head-bits", "8"],
    ...["--threads", String(threads), "--prompt", String(promptTokens), "--tokens", String(decodeSteps), "--json"],
  ];
  const command = commandLine(PROGRAM, args);
  try {
    return { command, result: runForJson(join(REPOSITORY, PROGRAM), args, REPOSITORY) };
  } catch (error) {
    if (error instanceof ProgramError) return { command, unavailable: error.message };
    throw error;
  }
}
