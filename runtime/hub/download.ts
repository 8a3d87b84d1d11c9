/** One file from the hub to the disk. */
import { rmSync, statSync } from "node:fs";
import { hashFile, startChecksum } from "./checksum.ts";
import type { Exchange, HubClient } from "./client.ts";
import { HubError, TransientFailure } from "./failure.ts";
import { PartialFile } from "./partial_file.ts";
import { fileAddress, type RemoteFile } from "./repository.ts";
import { withRetries } from "./retry.ts";

export interface Download {
  readonly file: RemoteFile;
  readonly commit: string;
  /** Where the verified file goes. */
  readonly path: string;
  /** Where it grows. The name must be this content's own: what lies there is continued. */
  readonly partialPath: string;
  /** Called with the number of bytes on the disk, which falls when a file has to be started again. */
  readonly onBytes: (bytes: number) => void;
}

/** New bytes after which a connection that broke counts as a first failure again. */
const PROGRESS_BYTES = 2 ** 20;
/** A second wrong checksum is not the line's fault. */
const MAX_MISMATCHES = 2;

/** Downloads, resumes or finds a file in place; on return it lies at `path` and has the hub's checksum. */
export async function downloadFile(client: HubClient, download: Download): Promise<void> {
  const { file, commit, path, partialPath, onBytes } = download;
  const { signal } = client.retry;
  if (await isInPlace(path, file, signal)) {
    onBytes(file.bytes);
    return;
  }
  const partial = await PartialFile.open(partialPath, file, signal);
  try {
    let mismatches = 0;
    let furthest = partial.bytes;
    await withRetries(`download ${file.path}`, client.retry, async (progressed) => {
      onBytes(partial.bytes);
      if (partial.bytes < file.bytes) {
        await fetchRest(client, fileAddress(client, commit, file.path), partial, file.bytes, (bytes) => {
          onBytes(bytes);
          if (bytes < furthest + PROGRESS_BYTES) return;
          furthest = bytes;
          progressed();
        });
      }
      if (await partial.finish(path)) return;
      mismatches++;
      const { algorithm, hex } = file.checksum;
      const reason = `its content is not what the hub lists (${algorithm} ${hex})`;
      if (mismatches === MAX_MISMATCHES) throw new HubError(`Cannot verify ${file.path}: ${reason}, twice`);
      throw new TransientFailure(reason);
    });
  } finally {
    await partial.close();
  }
}

/** True when `path` holds the content already; removes it when it holds another. */
async function isInPlace(path: string, file: RemoteFile, signal: AbortSignal): Promise<boolean> {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return false;
  if (stat.isFile() && stat.size === file.bytes) {
    const hasher = startChecksum(file.checksum.algorithm, file.bytes);
    await hashFile(path, hasher, signal);
    if (hasher.hex() === file.checksum.hex) return true;
  }
  rmSync(path, { recursive: true });
  return false;
}

/** Asks for the bytes that `partial` lacks and appends them; on return it has `total` bytes. */
async function fetchRest(
  client: HubClient,
  address: string,
  partial: PartialFile,
  total: number,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const headers: Record<string, string> = {};
  if (partial.bytes > 0) {
    headers.range = `bytes=${partial.bytes}-`;
    if (partial.etag !== undefined) headers["if-range"] = partial.etag;
  }
  const exchange = await client.open(address, headers, [200, 206, 416]);
  const etag = strongEtag(exchange);
  if (!continues(exchange, partial, total, etag)) {
    await partial.restart();
    onBytes(0);
    if (exchange.status !== 200) {
      exchange.close();
      throw new TransientFailure("the server does not continue the file where it was left");
    }
  }
  partial.etag = etag;
  for await (const chunk of exchange.chunks()) {
    if (partial.bytes + chunk.length > total) {
      await partial.restart();
      throw new TransientFailure(`the server sends more than the ${total} bytes that the hub lists`);
    }
    await partial.append(chunk);
    onBytes(partial.bytes);
  }
  if (partial.bytes < total) throw new TransientFailure(`the connection ended at byte ${partial.bytes} of ${total}`);
}

/** Whether the answer's first byte follows on what is there: a server may ignore Range, or the content may have changed. */
function continues(exchange: Exchange, partial: PartialFile, total: number, etag: string | undefined): boolean {
  if (partial.bytes === 0) return exchange.status === 200;
  if (exchange.status !== 206) return false;
  const before = partial.etag;
  if (before !== undefined && etag !== undefined && before !== etag) return false;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(exchange.headers.get("content-range") ?? "");
  return range !== null && Number(range[1]) === partial.bytes && (range[2] === "*" || Number(range[2]) === total);
}

/** Only a strong ETag promises the same bytes (RFC 9110, 13.1.5). */
function strongEtag(exchange: Exchange): string | undefined {
  const etag = exchange.headers.get("etag");
  return etag?.startsWith('"') ? etag : undefined;
}
