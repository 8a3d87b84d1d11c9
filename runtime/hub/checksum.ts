import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** What a hub knows of a file: SHA-256 where it lies in large file storage, the id of its git blob otherwise. */
export interface Checksum {
  readonly algorithm: "sha256" | "git-sha1";
  /** Lower case. */
  readonly hex: string;
}

export interface Hasher {
  update(bytes: Uint8Array): void;
  /** Lower case; nothing can be added afterwards. */
  hex(): string;
}

/** `bytes` is the file's whole length: git hashes it in front of the content. */
export function startChecksum(algorithm: Checksum["algorithm"], bytes: number): Hasher {
  const hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") hash.update(`blob ${bytes}\0`);
  return {
    update: (chunk) => void hash.update(chunk),
    hex: () => hash.digest("hex"),
  };
}

export async function hashFile(path: string, hasher: Hasher, signal: AbortSignal): Promise<void> {
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20, signal })) hasher.update(chunk);
}
