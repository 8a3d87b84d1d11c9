/** A repository of a hub as a folder on the disk, which appears under its name only when it is complete and verified. */
import { statfsSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { formatBytes } from "../cli/format.ts";
import { HubClient } from "./client.ts";
import { downloadFile } from "./download.ts";
import { HubError } from "./failure.ts";
import { Meter, type PullProgress } from "./meter.ts";
import { nextCommand } from "./next_command.ts";
import { type RemoteFile, readSnapshot } from "./repository.ts";
import type { RetryPolicy } from "./retry.ts";
import { selectFiles } from "./select.ts";
import type { HubSettings } from "./settings.ts";
import { checkTarget, isComplete, Staging } from "./staging.ts";

export interface PullOptions {
  /** "ORG/NAME" */
  readonly repository: string;
  /** Branch, tag or commit; "main" by default. */
  readonly revision?: string | undefined;
  /** Folder to make; NAME in the current folder by default. */
  readonly out?: string | undefined;
  /** Globs that replace the default choice of files. */
  readonly include?: readonly string[];
  /** Replaces a model's folder that lies at `out`. */
  readonly force?: boolean;
  readonly settings: HubSettings;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: PullProgress) => void;
  /** Tests shorten these. */
  readonly pause?: RetryPolicy["pause"];
  readonly stallMs?: number;
  /** Bytes free in a folder's file system; undefined when unknown. */
  readonly freeBytes?: (dir: string) => number | undefined;
}

/** What a pull comprises. */
export interface PullPlan {
  readonly repository: string;
  readonly revision: string;
  readonly commit: string;
  readonly dir: string;
  readonly files: readonly RemoteFile[];
  readonly bytes: number;
}

export interface PullResult extends PullPlan {
  /** True when the folder was there already, of the same commit and with the same files. */
  readonly wasComplete: boolean;
  /** What to type next, undefined when the files suggest nothing. */
  readonly next: string | undefined;
}

/** More gain little from one hub, and ask much of it. */
const PARALLEL = 4;
const NAME = /^[A-Za-z0-9][\w.-]{0,95}$/;

/**
 * Asks the hub what a pull would download; writes nothing.
 *
 * @throws {HubError} one line that says why not: no access, no such repository or revision, no usable weights.
 */
export async function planPull(options: PullOptions): Promise<PullPlan> {
  return await plan(connect(options, options.signal), options);
}

/**
 * Downloads a repository into a folder. Verified files and pieces of others are kept beside it, in `.NAME.pull`, until all are
 * there; when a pull ends early, the next one continues with them.
 *
 * @throws {HubError} one line that says why not; the folder is then as it was. The signal's reason when that is aborted.
 */
export async function pull(options: PullOptions): Promise<PullResult> {
  const meter = new Meter(options.onProgress);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const client = connect(options, signal, (ms, reason) => meter.wait(ms, reason));
  const planned = await plan(client, options);
  const { dir, files, commit } = planned;
  if (isComplete(dir, planned)) return { ...planned, wasComplete: true, next: nextCommand(dir, files) };
  checkTarget(dir, options.force ?? false);
  using staging = Staging.open(dir);
  staging.keepOnly(files);
  const present = files.map((file) => staging.bytesOf(file));
  meter.start(planned.bytes, present);
  checkSpace(dir, planned.bytes - sum(present), options.freeBytes ?? freeBytes);
  await inParallel(files, stop, async (file, index) => {
    const { path, partialPath } = staging.placesOf(file);
    await downloadFile(client, { file, commit, path, partialPath, onBytes: (bytes) => meter.update(index, bytes) });
  });
  signal.throwIfAborted();
  staging.complete(planned);
  return { ...planned, wasComplete: false, next: nextCommand(dir, files) };
}

function connect(options: PullOptions, signal: AbortSignal, onWait?: RetryPolicy["onWait"]): HubClient {
  const { repository, revision = "main", settings, pause, stallMs } = options;
  const [organisation = "", name = "", ...rest] = repository.split("/");
  const isName = (part: string) => NAME.test(part) && !part.includes("..");
  if (rest.length > 0 || !isName(organisation) || !isName(name))
    throw new HubError(`Cannot pull: received ${JSON.stringify(repository)}, expected ORG/NAME as on the hub's page`);
  if (!/^[\w./-]{1,255}$/.test(revision) || revision.includes(".."))
    throw new HubError(
      `Cannot pull ${repository}: received revision ${JSON.stringify(revision)}, expected a branch, tag or commit`,
    );
  return new HubClient({ settings, repository, revision, retry: { signal, pause, onWait }, stallMs });
}

async function plan(client: HubClient, options: PullOptions): Promise<PullPlan> {
  const { repository, revision } = client.asked;
  const { commit, files: all } = await readSnapshot(client);
  const files = selectFiles(repository, all, options.include ?? []);
  const dir = options.out ?? basename(repository);
  return { repository, revision, commit, dir, files, bytes: sum(files.map(({ bytes }) => bytes)) };
}

/** Large files first, so that the last one to end is not a large one. The first failure stops the others and is thrown. */
async function inParallel(
  files: readonly RemoteFile[],
  stop: AbortController,
  body: (file: RemoteFile, index: number) => Promise<void>,
): Promise<void> {
  const queue = [...files.entries()].sort(([, a], [, b]) => a.bytes - b.bytes);
  let failure: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    for (let next = queue.pop(); next && !stop.signal.aborted; next = queue.pop()) {
      try {
        await body(next[1], next[0]);
      } catch (error) {
        failure ??= { error };
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  if (failure) throw failure.error;
}

function checkSpace(dir: string, needed: number, freeBytesOf: (dir: string) => number | undefined): void {
  const free = freeBytesOf(dirname(resolve(dir)));
  if (free === undefined || free >= needed) return;
  throw new HubError(
    `Cannot pull into ${dir}: ${formatBytes(needed)} are needed, the disk has ${formatBytes(free)} free`,
  );
}

function freeBytes(dir: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  } catch {
    // Not every file system tells; one that fills up is noticed while writing.
    return undefined;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
