/** Who may ask: keys from a file, kept as SHA-256 and compared in constant time. */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";

/** Shorter ones can be guessed. */
const MIN_LENGTH = 16;

export class ApiKeys {
  readonly #hashes: readonly Uint8Array[];

  constructor(keys: readonly string[]) {
    this.#hashes = keys.map(hash);
  }

  /**
   * Reads a file with one key a line; empty lines and lines that begin with # do not count.
   *
   * @throws Error for a file without keys and for keys that are too short, without showing them
   */
  static read(path: string): ApiKeys {
    const lines = readFileSync(path, "utf8").split("\n");
    const keys = lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
    if (keys.length === 0) throw new Error(`Cannot use ${path}: received no keys, expected one a line`);
    const short = keys.findIndex((key) => key.length < MIN_LENGTH);
    if (short >= 0) {
      throw new Error(
        `Cannot use ${path}: key ${short + 1} has ${keys[short]?.length} characters, expected at least ${MIN_LENGTH}`,
      );
    }
    return new ApiKeys(keys);
  }

  /** @param authorization the header's value: "Bearer KEY" */
  accepts(authorization: string | undefined): boolean {
    const [, key] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
    if (key === undefined) return false;
    const given = hash(key);
    // All are compared, so that the time does not tell which one came close.
    return this.#hashes.reduce((found, known) => timingSafeEqual(known, given) || found, false);
  }
}

function hash(key: string): Uint8Array {
  return createHash("sha256").update(key).digest();
}
