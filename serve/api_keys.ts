/** Who may ask: keys from files, known only by their SHA-256 and compared in constant time. */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";

/** Shorter ones can be guessed. */
const MIN_LENGTH = 16;
const HASHED = /^sha256:([0-9a-f]{64})$/i;
const NAME = /^[\w.@-]{1,64}$/;

/** Someone who has a key, or without keys anyone. */
export interface Client {
  /** What logs call it, and whose limits apply: keys of one name share them. */
  readonly name: string;
  /** May change what is served. */
  readonly admin: boolean;
}

/** Without keys only this machine can ask, and its user may do everything. */
export const ANYONE: Client = { name: "anyone", admin: true };

interface Key {
  readonly client: Client;
  readonly sha256: Uint8Array;
}

export class ApiKeys {
  readonly #keys: readonly Key[];

  private constructor(keys: readonly Key[]) {
    this.#keys = keys;
  }

  /**
   * Reads the files of --api-key-file and --admin-key-file: on each line a key, or "sha256:" and the hash of one in hexadecimal
   * digits, and after a space a name if it is to have one. Empty lines and lines that begin with # do not count.
   *
   * @returns undefined if there is neither file
   * @throws Error for a file without keys and for lines that cannot be used, without showing them
   */
  static read(userFile: string | undefined, adminFile: string | undefined): ApiKeys | undefined {
    const keys = [
      ...(userFile === undefined ? [] : readKeys(userFile, false)),
      ...(adminFile === undefined ? [] : readKeys(adminFile, true)),
    ];
    return keys.length === 0 ? undefined : new ApiKeys(keys);
  }

  /** @param authorization the header's value: "Bearer KEY" */
  find(authorization: string | undefined): Client | undefined {
    const [, given] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
    if (given === undefined) return undefined;
    const sha256 = hash(given);
    // All are compared, so that the time does not tell which one came close.
    return this.#keys.reduce<Client | undefined>(
      (found, key) => (timingSafeEqual(key.sha256, sha256) ? key.client : found),
      undefined,
    );
  }
}

function readKeys(path: string, admin: boolean): Key[] {
  const keys = readFileSync(path, "utf8")
    .split("\n")
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== "" && !line.startsWith("#"))
    .map(({ line, number }) => readKey(line, `${path}, line ${number}`, `${admin ? "admin" : "key"}-${number}`, admin));
  if (keys.length === 0) throw new Error(`Cannot use ${path}: received no keys, expected one a line`);
  return keys;
}

function readKey(line: string, where: string, unnamed: string, admin: boolean): Key {
  const [text = "", name = unnamed, ...rest] = line.split(/\s+/);
  const refuse = (received: string, expected: string): never => {
    throw new Error(`Cannot use ${where}: received ${received}, expected ${expected}`);
  };
  if (rest.length > 0) refuse(`${rest.length + 2} words`, "a key and at most one name");
  if (!NAME.test(name)) refuse("a name with other characters", "at most 64 letters, digits and . _ @ -");
  const client = { name, admin };
  const [, hex] = HASHED.exec(text) ?? [];
  if (hex !== undefined) return { client, sha256: Buffer.from(hex, "hex") };
  if (text.startsWith("sha256:"))
    refuse(`a hash of ${text.length - 7} characters`, "sha256: and 64 hexadecimal digits");
  if (text.length < MIN_LENGTH) refuse(`a key of ${text.length} characters`, `at least ${MIN_LENGTH}`);
  return { client, sha256: hash(text) };
}

function hash(key: string): Uint8Array {
  return createHash("sha256").update(key).digest();
}
