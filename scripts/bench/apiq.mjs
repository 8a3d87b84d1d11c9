/** The apiq side: `scripts/apiq bench` in a process of its own. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { commandLine, ProgramError, runForJson } from "./programs.mjs";

const REPOSITORY = join(import.meta.dirname, "..", "..");
const PROGRAM = join("scripts", "apiq");

/**
 * One timed run: 2-bit linears in groups of 64 under an 8-bit head.
 *
 * @param {string} shapeName
 * @param {{ threads: number, promptTokens: number, decodeSteps: number }} options
 * @returns {{ command: string, result: object } | { command: string, unavailable: string, failed: boolean }}
 *   failed: it was there and went wrong
 */
export function runApiq(shapeName, { threads, promptTokens, decodeSteps }) {
  const args = [
    ...["bench", "--shape", shapeName, "--bits", "2", "--group-size", "64", "--head-bits", "8"],
    ...["--threads", String(threads), "--prompt", String(promptTokens), "--tokens", String(decodeSteps), "--json"],
  ];
  const command = commandLine(PROGRAM, args);
  if (!existsSync(join(REPOSITORY, PROGRAM))) {
    return { command, unavailable: `there is no ${PROGRAM}`, failed: false };
  }
  try {
    return { command, result: runForJson(join(REPOSITORY, PROGRAM), args, REPOSITORY) };
  } catch (error) {
    if (error instanceof ProgramError) return { command, unavailable: error.message, failed: true };
    throw error;
  }
}
