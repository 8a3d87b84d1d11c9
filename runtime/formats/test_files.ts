/** What the tests of this folder and its neighbours build their files with. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertThrows } from "@std/assert";
import { FormatError } from "./failure.ts";

/** Runs `body` with a folder that is gone afterwards. */
export async function inFolder(body: (dir: string) => void | Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "apiq-test-"));
  try {
    await body(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** A safetensors file with any header, right or wrong, and `dataBytes` zero bytes of data. */
export function writeRawSafetensors(path: string, header: unknown, dataBytes: number): void {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  writeFileSync(path, file);
}

/** `body` must throw a FormatError whose message holds all of `parts`. */
export function assertFormatError(body: () => unknown, ...parts: string[]): void {
  const error = assertThrows(body, FormatError);
  for (const part of parts) {
    if (!error.message.includes(part)) throw new Error(`Expected ${JSON.stringify(part)} in: ${error.message}`);
  }
}
