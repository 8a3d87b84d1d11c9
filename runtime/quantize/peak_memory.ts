/** The most memory that the process has held. */
import { readFileSync } from "node:fs";
import type { Context } from "../../ffi/mod.ts";
import { residentBytes } from "../memory.ts";

/** Peak resident bytes as Linux counts them; elsewhere, at least what the device memory took and what is resident now. */
export function peakBytes(context: Context): number {
  const { peakBytes: device } = context.memory();
  return highWaterMark() ?? Math.max(device, residentBytes());
}

function highWaterMark(): number | undefined {
  try {
    const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
