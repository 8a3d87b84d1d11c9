/** Locks on files (flock(2)): the system releases them with the process, however that ends, so none is ever left behind. */
import { closeSync, openSync } from "node:fs";
import type { CrossingType } from "./adapter.ts";
import { adapter, libraryPath } from "./library.ts";

const OPEN_READ_WRITE = 2;
/** LOCK_EX | LOCK_NB */
const EXCLUSIVE_NOW = 6;

export class FileLock implements Disposable {
  readonly #descriptor: number;

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * Locks the file at `path`, which is made where it does not exist.
   *
   * @returns null where someone holds it: another process, or another lock of this one
   * @throws where the file cannot be made or opened
   */
  static take(path: string): FileLock | null {
    // Made by the runtime: its errors say what is wrong, and open(2) without O_CREAT takes no variable arguments.
    closeSync(openSync(path, "a"));
    const descriptor = system("open", ["memory", "u32"])(new TextEncoder().encode(`${path}\0`), OPEN_READ_WRITE);
    if (descriptor < 0) throw new Error(`Cannot open ${path} to lock it`);
    if (system("flock", ["u32", "u32"])(descriptor, EXCLUSIVE_NOW) === 0) return new FileLock(descriptor);
    system("close", ["u32"])(descriptor);
    return null;
  }

  [Symbol.dispose](): void {
    system("close", ["u32"])(this.#descriptor);
  }
}

/** A function of the C library, which is found through the kernel library that is linked to it. */
function system(name: string, parameters: readonly CrossingType[]) {
  return adapter.bind(libraryPath("cpu"), name, { parameters, result: "i32" });
}
