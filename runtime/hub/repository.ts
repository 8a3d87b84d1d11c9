import { isObject } from "../formats/json.ts";
import type { Checksum } from "./checksum.ts";
import type { HubClient } from "./client.ts";
import { HubError, printable } from "./failure.ts";
import { checkFileName } from "./file_name.ts";

export interface RemoteFile {
  /** Relative, with "/" between folders; checked by `checkFileName`. */
  readonly path: string;
  readonly bytes: number;
  readonly checksum: Checksum;
}

/** A repository at one commit: a push while it is downloaded changes nothing. */
export interface Snapshot {
  /** 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const MAX_FILES = 100_000;
const SHA1 = /^[0-9a-f]{40}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/**
 * Resolves the revision (branch, tag or commit) to a commit and lists that commit's files.
 *
 * @throws {HubError} when there is no such repository or revision, no access, or the answer is not a hub's.
 */
export async function readSnapshot(client: HubClient): Promise<Snapshot> {
  const { repository, revision, endpoint } = client.asked;
  // Loaded here because it takes a tenth of a second, which the other commands need not spend.
  const { listFiles, modelInfo } = await import("@huggingface/hub");
  // No accessToken: the client adds it, and only where it may go.
  const common = { hubUrl: endpoint, fetch: client.fetch };
  return await understood(client, async () => {
    const { sha } = await modelInfo({ ...common, name: repository, revision, additionalFields: ["sha"] });
    if (typeof sha !== "string" || !SHA1.test(sha)) throw strange(client, "it names no commit");
    const files = new Map<string, RemoteFile>();
    for await (const entry of listFiles({ ...common, repo: repository, revision: sha, recursive: true })) {
      const file = readEntry(client, entry);
      if (!file) continue;
      if (files.has(file.path)) throw strange(client, `it lists ${file.path} twice`);
      if (files.size === MAX_FILES) throw strange(client, `it lists more than ${MAX_FILES} files`);
      files.set(file.path, file);
    }
    return { commit: sha, files: [...files.values()] };
  });
}

/** Where a file's content is asked for. */
export function fileAddress(client: HubClient, commit: string, path: string): string {
  const { endpoint, repository } = client.asked;
  return `${endpoint}/${repository}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

function readEntry(client: HubClient, entry: unknown): RemoteFile | undefined {
  if (!isObject(entry)) throw strange(client, "its listing holds something else than files");
  if (entry.type !== "file") return undefined;
  const { path, lfs } = entry;
  if (typeof path !== "string") throw strange(client, "it lists a file without a name");
  checkFileName(path);
  const bytes = isObject(lfs) ? lfs.size : entry.size;
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0)
    throw strange(client, `it lists ${path} without its size`);
  return { path, bytes, checksum: readChecksum(client, path, lfs, entry.oid) };
}

function readChecksum(client: HubClient, path: string, lfs: unknown, oid: unknown): Checksum {
  const [algorithm, hex, form] = isObject(lfs)
    ? (["sha256", lfs.oid, SHA256] as const)
    : (["git-sha1", oid, SHA1] as const);
  if (typeof hex !== "string" || !form.test(hex)) throw strange(client, `it lists ${path} without its checksum`);
  return { algorithm, hex };
}

/** The library trusts the answers' shape: what it then trips over is an answer that no hub gives. */
async function understood<T>(client: HubClient, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) throw strange(client, "it is not a hub's");
    throw error;
  }
}

function strange(client: HubClient, reason: string): HubError {
  const { repository, endpoint } = client.asked;
  return new HubError(`Cannot pull ${repository}: the answer of ${endpoint} makes no sense: ${printable(reason)}`);
}
