/** The folders from which adapters may be loaded. */
import { realpath, stat } from "node:fs/promises";
import { isAbsolute, join, normalize, resolve, sep } from "node:path";
import { ADAPTER_FILES } from "../formats/adapter.ts";
import { AdapterError } from "./failure.ts";

/** Longer than any path that a file system takes. */
const MAX_PATH = 4096;

interface Root {
  /** As it was given, absolute. */
  readonly given: string;
  /** Without symbolic links. */
  readonly real: string;
}

export class AdapterRoots {
  readonly #roots: readonly Root[];

  private constructor(roots: readonly Root[]) {
    this.#roots = roots;
  }

  /** Throws an Error for what is not a folder. */
  static async open(dirs: readonly string[]): Promise<AdapterRoots> {
    const roots = dirs.map(async (dir): Promise<Root> => {
      const given = resolve(dir);
      const found = await stat(given).catch(() => undefined);
      if (!found?.isDirectory()) throw new Error(`Cannot load adapters from ${dir}: it is not a folder`);
      return { given, real: await realpath(given) };
    });
    return new AdapterRoots(await Promise.all(roots));
  }

  /**
   * The real path of an adapter's folder, whose files lie in a root as well once all symbolic links are followed. A relative path
   * is looked up in the roots, in order.
   *
   * @throws {AdapterError} where it is outside of all roots or does not exist; what is outside is not even looked at
   */
  async resolve(path: string): Promise<string> {
    if (this.#roots.length === 0) {
      throw new AdapterError(
        "no_roots",
        "Cannot load adapters: the server was started without a folder to load them from; start it with --adapter-root DIR",
      );
    }
    if (path.length > MAX_PATH || path.includes("\0")) throw this.#outside(path);
    const candidates = isAbsolute(path) ? [normalize(path)] : this.#roots.map(({ given }) => join(given, path));
    const inside = candidates.filter((candidate) =>
      this.#roots.some(({ given, real }) => [given, real].some(holds(candidate))),
    );
    if (inside.length === 0) throw this.#outside(path);
    for (const candidate of inside) {
      const real = await realpath(candidate).catch(() => undefined);
      if (real === undefined) continue;
      for (const part of ["", ...ADAPTER_FILES]) await this.#checkInside(join(real, part), path);
      return real;
    }
    throw new AdapterError("no_folder", `Cannot load an adapter from ${path}: it does not exist`);
  }

  /** What is not there is inside. */
  async #checkInside(file: string, path: string): Promise<void> {
    const target = await realpath(file).catch(() => undefined);
    if (target !== undefined && !this.#roots.some(({ real }) => holds(target)(real))) throw this.#outside(path);
  }

  #outside(path: string): AdapterError {
    const shown = path.length > 200 ? `${path.slice(0, 200)}...` : path;
    const roots = this.#roots.map(({ given }) => given).join(", ");
    return new AdapterError(
      "outside",
      `Cannot load an adapter from ${shown}: expected a folder in ${roots} (--adapter-root), symbolic links followed`,
    );
  }
}

/** Whether a root is the path or a folder above it. */
function holds(path: string): (root: string) => boolean {
  return (root) => path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}
