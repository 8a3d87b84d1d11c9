/** What a row has finished so far, kept in a file, so that a row that was interrupted does not begin again. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export class Phases {
  #file;
  #kept;

  /**
   * @param {string} dir the row's folder; emptied where what it holds belongs to something else
   * @param {object} identity everything that decides what the phases come to
   */
  constructor(dir, identity) {
    this.#file = join(dir, "phases.json");
    const kept = existsSync(this.#file) ? JSON.parse(readFileSync(this.#file, "utf8")) : null;
    if (kept !== null && JSON.stringify(kept.identity) === JSON.stringify(identity)) {
      this.#kept = kept;
      return;
    }
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true });
    this.#kept = { identity, phases: {} };
    this.#write();
  }

  /**
   * What `run` comes to, or came to in an earlier process.
   *
   * @template T
   * @param {string} name
   * @param {() => Promise<T>} run
   * @returns {Promise<T>}
   */
  async once(name, run) {
    const { phases } = this.#kept;
    if (!(name in phases)) {
      phases[name] = await run();
      this.#write();
    }
    return phases[name];
  }

  #write() {
    const partial = `${this.#file}.partial`;
    writeFileSync(partial, `${JSON.stringify(this.#kept, null, 2)}\n`);
    renameSync(partial, this.#file);
  }
}
