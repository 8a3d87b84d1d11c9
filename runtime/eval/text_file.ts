import { readFileSync } from "node:fs";
import { decodeUtf8 } from "../formats/json.ts";

/** @throws Error naming the file when it cannot be read or is not UTF-8 */
export function readText(path: string): string {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new Error(`Cannot read ${path}: ${missing ? "it does not exist" : (error as Error).message}`);
  }
  return decodeUtf8(bytes, path);
}
