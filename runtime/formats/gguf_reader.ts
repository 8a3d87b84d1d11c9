/** A buffered little-endian reader over the head of a GGUF file: every length is checked against what the file still holds. */
import { Buffer } from "node:buffer";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { FormatError } from "./failure.ts";

const WINDOW_BYTES = 1 << 20;
/** A vocabulary has some hundred thousand entries. What is counted becomes JavaScript values, so a huge count must not pass. */
const MAX_COUNT = 1 << 24;

export class GgufReader implements Disposable {
  readonly path: string;
  readonly bytes: number;
  readonly #file: number;
  #window = Buffer.alloc(0);
  #windowStart = 0;
  #at = 0;

  /** @throws {FormatError} when there is no such file, or it is a folder or a device. */
  constructor(path: string) {
    this.path = path;
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile()) {
      throw new FormatError("open", { file: path, reason: stat ? "not a regular file" : "it does not exist" });
    }
    this.#file = openSync(path, "r");
    this.bytes = stat.size;
  }

  get position(): number {
    return this.#windowStart + this.#at;
  }

  get remaining(): number {
    return this.bytes - this.position;
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }

  u8(): number {
    return this.#take(1).readUInt8();
  }
  i8(): number {
    return this.#take(1).readInt8();
  }
  u16(): number {
    return this.#take(2).readUInt16LE();
  }
  i16(): number {
    return this.#take(2).readInt16LE();
  }
  u32(): number {
    return this.#take(4).readUInt32LE();
  }
  i32(): number {
    return this.#take(4).readInt32LE();
  }
  f32(): number {
    return this.#take(4).readFloatLE();
  }
  f64(): number {
    return this.#take(8).readDoubleLE();
  }
  i64(): bigint {
    return this.#take(8).readBigInt64LE();
  }
  u64(): bigint {
    return this.#take(8).readBigUInt64LE();
  }

  /** A u64 that counts things of at least `bytesEach` bytes that follow in the file; never more than any real file has. */
  count(what: string, bytesEach: number): number {
    const count = this.u64();
    const limit = Math.min(MAX_COUNT, Math.floor(this.remaining / bytesEach));
    if (count > BigInt(limit)) throw this.failure(`${what} does not fit the file`, String(count), `at most ${limit}`);
    return Number(count);
  }

  string(): string {
    const bytes = this.#take(this.count("length of a string", 1));
    return new TextDecoder().decode(bytes);
  }

  failure(reason: string, received?: unknown, expected?: unknown): FormatError {
    return new FormatError("read", {
      file: this.path,
      reason: `${reason} at byte ${this.position}`,
      received,
      expected,
    });
  }

  #take(bytes: number): Buffer {
    if (bytes > this.remaining) throw this.failure("truncated", `${this.remaining} bytes`, bytes);
    if (this.#at + bytes > this.#window.length) this.#refill(bytes);
    this.#at += bytes;
    return this.#window.subarray(this.#at - bytes, this.#at);
  }

  #refill(bytes: number): void {
    const start = this.position;
    const size = Math.min(Math.max(bytes, WINDOW_BYTES), this.bytes - start);
    const window = Buffer.alloc(size);
    const got = readSync(this.#file, window, 0, size, start);
    if (got !== size) throw this.failure("truncated", `${got} bytes`, size);
    this.#window = window;
    this.#windowStart = start;
    this.#at = 0;
  }
}
