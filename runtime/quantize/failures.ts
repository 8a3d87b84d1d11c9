/** What goes wrong in a run, as one line that says what to do. */
import { ApiqError } from "../../ffi/mod.ts";

/** A run that ended early. Its message is one line; the finished blocks are where it says. */
export class QuantizeError extends Error {
  override readonly name = "QuantizeError";
}

const DISK_FULL: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file would be larger than this process may write",
};

/**
 * @param doing what was under way, as in "quantize block 3 of 30"
 * @param kept what remains, a sentence
 */
export function explain(error: unknown, doing: string, kept: string): Error {
  if (isAbort(error)) return error as Error;
  const help = "--stream-dir keeps the calibration streams on disk, fewer --samples or a smaller --seq-len need less";
  return new QuantizeError(`Cannot ${doing}: ${causeOf(error, help)}. ${kept}`, { cause: error });
}

/** What was thrown, also by code that is not ours. */
export function oneLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().replace(/\s*\n\s*/g, " ");
}

export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/**
 * Why a run ended, without a full stop.
 *
 * @param memoryHelp what to do where memory was short
 */
export function causeOf(error: unknown, memoryHelp: string): string {
  const reason = oneLine(error);
  const full = DISK_FULL[(error as NodeJS.ErrnoException | null)?.code ?? ""];
  if (full !== undefined) return `${full} (${reason})`;
  if (isOutOfMemory(error)) return `out of memory (${reason}); ${memoryHelp}`;
  return reason.replace(/\.$/, "");
}

/** On the device, or of JavaScript's own arrays. */
function isOutOfMemory(error: unknown): boolean {
  if (error instanceof ApiqError) return error.status === "OUT_OF_MEMORY";
  return error instanceof RangeError && /out of memory|allocation failed/i.test(error.message);
}

/** The loss of a block is no number any more. */
export function lossFailure(loss: number, part: string | null, epoch: number, step: number): Error {
  const where = part === null ? "" : ` of ${part}`;
  return new Error(`the loss${where} became ${loss} in epoch ${epoch}, step ${step}; lower learning rates may help`);
}
