import { Buffer } from "node:buffer";
import { HubError, printable } from "./failure.ts";

const LONGEST_SEGMENT = 255;
const LONGEST_PATH = 1024;

/**
 * Refuses a name that could lead out of the folder or hide what it is. Git itself cannot hold most of these, so a listing
 * with one of them is an attack or a defect, and nothing of it is used.
 *
 * @throws {HubError} for absolute paths, "..", ".", empty segments, backslashes, drive letters, control characters, long names.
 */
export function checkFileName(path: string): void {
  const segments = path.split("/");
  const wrong =
    path.length > LONGEST_PATH ||
    /[\p{C}\\]|^[a-z]:/iu.test(path) ||
    segments.some(
      (segment) =>
        segment === "" ||
        segment === "." ||
        segment === ".." ||
        segment.toLowerCase() === ".git" ||
        Buffer.byteLength(segment) > LONGEST_SEGMENT,
    );
  if (wrong) throw new HubError(`Cannot use the hub's listing: "${printable(path)}" is no safe file name`);
}
