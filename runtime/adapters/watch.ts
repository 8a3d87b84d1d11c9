/**
 * A folder whose folders are adapters. It is looked at every second, which works on every file system: a folder is loaded when its
 * files have stayed the same from one look to the next, and again whenever they have changed. What cannot be loaded, as a file that
 * is still being written, is said once and tried again when it has changed. A folder that goes leaves its adapter loaded.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { EngineUnavailableError } from "../engine/client.ts";
import { ADAPTER_FILES } from "../formats/adapter.ts";
import { AdapterError } from "./failure.ts";
import type { AdapterRegistry, LoadedAdapter } from "./registry.ts";
import { AdapterRoots } from "./roots.ts";

const LOOK_EVERY_MS = 1000;

export interface WatchOptions {
  readonly dir: string;
  readonly registry: AdapterRegistry;
  readonly everyMs?: number;
  onLoaded(adapter: LoadedAdapter): void;
  onRefused(name: string, reason: string): void;
}

export class AdapterWatch implements Disposable {
  readonly #options: WatchOptions;
  readonly #roots: AdapterRoots;
  /** By folder: what its files looked like at the last look, and when they were last tried. */
  readonly #seen = new Map<string, string>();
  readonly #tried = new Map<string, string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  private constructor(options: WatchOptions, roots: AdapterRoots) {
    this.#options = options;
    this.#roots = roots;
  }

  /** Begins to look. Throws an Error for what is not a folder. */
  static async start(options: WatchOptions): Promise<AdapterWatch> {
    const watch = new AdapterWatch(options, await AdapterRoots.open([options.dir]));
    watch.#again(0);
    return watch;
  }

  #again(ms: number): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      void this.#look().finally(() => this.#again(this.#options.everyMs ?? LOOK_EVERY_MS));
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    // A folder that cannot be read now may be there again later.
    const names = await readdir(this.#options.dir).catch(() => []);
    for (const name of names.filter(isFinished).sort()) {
      if (this.#closed) return;
      const looks = await appearance(join(this.#options.dir, name));
      const isSettled = looks !== undefined && looks === this.#seen.get(name);
      if (looks === undefined) this.#seen.delete(name);
      else this.#seen.set(name, looks);
      if (isSettled && looks !== this.#tried.get(name)) await this.#load(name, looks);
    }
  }

  async #load(name: string, looks: string): Promise<void> {
    const { registry, onLoaded, onRefused } = this.#options;
    this.#tried.set(name, looks);
    try {
      const dir = await this.#roots.resolve(name);
      const loaded = registry.get(name);
      if (loaded && loaded.dir !== dir) {
        throw new AdapterError("exists", `Cannot load adapter ${name}: the name stands for the one in ${loaded.dir}`);
      }
      onLoaded(await registry.load({ name, dir, inPlace: true }));
    } catch (error) {
      const isPassing =
        error instanceof EngineUnavailableError || (error instanceof AdapterError && error.reason === "busy");
      if (isPassing) this.#tried.delete(name);
      else onRefused(name, error instanceof Error ? error.message : String(error));
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }
}

/** Not hidden, and not where a finetune run keeps what it is not done with. */
function isFinished(name: string): boolean {
  return !name.startsWith(".") && !name.endsWith(".partial");
}

/** Changes whenever a file of the folder does; undefined where what an adapter needs is not there. */
async function appearance(dir: string): Promise<string | undefined> {
  const files = await Promise.all(
    ADAPTER_FILES.map((file) => stat(join(dir, file), { bigint: true }).catch(() => null)),
  );
  const [config, weights] = files;
  if (!config?.isFile() || !weights?.isFile()) return undefined;
  return files.map((file) => file && `${file.ino}:${file.size}:${file.mtimeNs}`).join(" ");
}
