import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { type Hasher, hashFile, startChecksum } from "./checksum.ts";
import { diskFailure } from "./failure.ts";
import type { RemoteFile } from "./repository.ts";

/**
 * A file on its way: bytes are appended and hashed as they arrive, and it takes its final name only when the checksum is right.
 * What a process leaves behind is continued by the next one; beside it lies the ETag of the answer it came from.
 */
export class PartialFile {
  readonly #path: string;
  readonly #file: RemoteFile;
  readonly #handle: FileHandle;
  #hasher: Hasher;
  #bytes: number;

  private constructor(path: string, file: RemoteFile, handle: FileHandle, hasher: Hasher, bytes: number) {
    this.#path = path;
    this.#file = file;
    this.#handle = handle;
    this.#hasher = hasher;
    this.#bytes = bytes;
  }

  /** Opens `path`, with what an earlier process left in it. */
  static async open(path: string, file: RemoteFile, signal: AbortSignal): Promise<PartialFile> {
    const hasher = startChecksum(file.checksum.algorithm, file.bytes);
    mkdirSync(dirname(path), { recursive: true });
    const left = bytesOf(path);
    if (left > 0 && left <= file.bytes) await hashFile(path, hasher, signal);
    const handle = await open(path, "a");
    const partial = new PartialFile(path, file, handle, hasher, left);
    if (left > file.bytes) await partial.restart();
    return partial;
  }

  /** How many bytes are there. */
  get bytes(): number {
    return this.#bytes;
  }

  get etag(): string | undefined {
    return existsSync(this.#etagPath) ? readFileSync(this.#etagPath, "utf8") : undefined;
  }

  set etag(value: string | undefined) {
    if (value === undefined) rmSync(this.#etagPath, { force: true });
    else writeFileSync(this.#etagPath, value);
  }

  async append(chunk: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < chunk.length; ) done += (await this.#handle.write(chunk, done)).bytesWritten;
    } catch (error) {
      throw diskFailure(error, this.#path);
    }
    this.#hasher.update(chunk);
    this.#bytes += chunk.length;
  }

  /** Throws away what is there. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hasher = startChecksum(this.#file.checksum.algorithm, this.#file.bytes);
    this.#bytes = 0;
    this.etag = undefined;
  }

  /** With the right checksum the file takes the name `path`; otherwise nothing is left of it. Returns which. */
  async finish(path: string): Promise<boolean> {
    if (this.#hasher.hex() !== this.#file.checksum.hex) {
      await this.restart();
      return false;
    }
    try {
      await this.#handle.sync();
      mkdirSync(dirname(path), { recursive: true });
      renameSync(this.#path, path);
    } catch (error) {
      throw diskFailure(error, path);
    }
    this.etag = undefined;
    return true;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  get #etagPath(): string {
    return `${this.#path}.etag`;
  }
}

/** A file's length, 0 if there is none. */
export function bytesOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
