/** Where a pull's files grow, and how they become the model's folder. */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import { isObject } from "../formats/json.ts";
import { diskFailure, HubError } from "./failure.ts";
import { bytesOf } from "./partial_file.ts";
import type { PullPlan } from "./pull.ts";
import type { RemoteFile } from "./repository.ts";

/** In a pulled folder: where it came from. */
export const MANIFEST = ".apiq_pull.json";

/**
 * The folder `.NAME.pull` beside the folder NAME that is to be made:
 *
 *     files/...     verified files under their names; renamed to NAME when all are there
 *     partial/...   unfinished ones, named by a hash of name and content, so that another revision's bytes cannot mix in
 *     lock          process id of the pull that works here
 */
export class Staging implements Disposable {
  readonly #target: string;
  readonly #root: string;

  private constructor(target: string, root: string) {
    this.#target = target;
    this.#root = root;
  }

  /** @throws {HubError} when another process pulls into the same folder, or nothing can be written there. */
  static open(dir: string): Staging {
    const target = resolve(dir);
    const root = join(dirname(target), `.${basename(target)}.pull`);
    try {
      mkdirSync(join(root, "files"), { recursive: true });
      lock(join(root, "lock"), dir);
    } catch (error) {
      throw diskFailure(error, root);
    }
    return new Staging(target, root);
  }

  placesOf({ path, checksum }: RemoteFile): { readonly path: string; readonly partialPath: string } {
    const key = createHash("sha256").update(`${checksum.hex} ${path}`).digest("hex");
    return { path: join(this.#root, "files", path), partialPath: join(this.#root, "partial", key) };
  }

  /** Bytes of a file that lie here, verified or not. */
  bytesOf(file: RemoteFile): number {
    const { path, partialPath } = this.placesOf(file);
    return Math.min(file.bytes, bytesOf(path) || bytesOf(partialPath));
  }

  /** Removes what an earlier pull of another revision or choice left here. */
  keepOnly(files: readonly RemoteFile[]): void {
    const places = files.map((file) => this.placesOf(file));
    const wanted = new Set(places.flatMap(({ path, partialPath }) => [path, partialPath, `${partialPath}.etag`]));
    const folders: string[] = [];
    for (const entry of readdirSync(this.#root, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (!wanted.has(path) && path !== join(this.#root, "lock")) rmSync(path);
    }
    // Inner ones first. An empty folder in a model could be taken for something: apiq_init is an adapter.
    for (const folder of folders.sort((a, b) => b.length - a.length))
      if (folder !== join(this.#root, "files") && readdirSync(folder).length === 0) rmdirSync(folder);
  }

  /** Gives the folder its name, in place of one that may be replaced. */
  complete({ repository, revision, commit, files }: PullPlan): void {
    const made = join(this.#root, "files");
    const list = files.map(({ path, bytes, checksum }) => ({ path, bytes, [checksum.algorithm]: checksum.hex }));
    const old = join(this.#root, "replaced");
    try {
      writeFileSync(
        join(made, MANIFEST),
        `${JSON.stringify({ repository, revision, commit, files: list }, null, 2)}\n`,
      );
      rmSync(old, { recursive: true, force: true });
      if (existsSync(this.#target)) renameSync(this.#target, old);
      renameSync(made, this.#target);
      rmSync(this.#root, { recursive: true });
    } catch (error) {
      throw diskFailure(error, this.#target);
    }
  }

  /** Lets other processes in; what was downloaded stays for the next pull, but a folder without any goes. */
  [Symbol.dispose](): void {
    if (!existsSync(this.#root)) return;
    rmSync(join(this.#root, "lock"), { force: true });
    const rest = readdirSync(this.#root, { recursive: true, withFileTypes: true });
    if (rest.every((entry) => entry.isDirectory())) rmSync(this.#root, { recursive: true });
  }
}

/** @throws {HubError} when `dir` exists and may not be replaced: only an empty folder and, if told to, a model's folder may. */
export function checkTarget(dir: string, force: boolean): void {
  const stat = statSync(dir, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const names = stat.isDirectory() ? readdirSync(dir) : undefined;
  if (names?.length === 0) return;
  if (!names?.some((name) => name === MANIFEST || name === "config.json"))
    throw new HubError(`Cannot pull into ${dir}: it is neither empty nor a model's folder; --out takes another`);
  if (!force)
    throw new HubError(
      `Cannot pull into ${dir}: it holds another model or revision; --force replaces it, --out takes another`,
    );
}

/** Whether `dir` was pulled from this repository at this commit and has all the files in their full length. */
export function isComplete(dir: string, { repository, commit, files }: PullPlan): boolean {
  const path = join(dir, MANIFEST);
  if (!existsSync(path)) return false;
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return false;
  }
  const isSame = isObject(manifest) && manifest.repository === repository && manifest.commit === commit;
  return (
    isSame && files.every((file) => existsSync(join(dir, file.path)) && bytesOf(join(dir, file.path)) === file.bytes)
  );
}

/** Two pulls into one folder would write into the same files. A lock whose process is gone does not count. */
function lock(path: string, dir: string): void {
  for (let stale = false; ; stale = true) {
    try {
      writeFileSync(path, `${process.pid}`, { flag: "wx" });
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    }
    const owner = readFileSync(path, "utf8");
    if (stale || existsSync(`/proc/${owner}`))
      throw new HubError(`Cannot pull into ${dir}: process ${owner} is doing so (or remove ${path})`);
    rmSync(path);
  }
}
