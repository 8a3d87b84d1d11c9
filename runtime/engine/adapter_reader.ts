/** Reads adapters on a thread of its own: files, checks and conversions never hold up a step of the model. */
import { Worker } from "node:worker_threads";
import { type AdapterHost, ModeNeededError } from "../adapters/open.ts";
import type { LinearShapes, LoraDtype, LoraImage } from "../models/lora_image.ts";
import type { AdapterFinding, AdapterSpec } from "./protocol.ts";

/** Gigabytes from a slow disk take less. A file system that does not answer must not stop all loading for ever. */
const READ_MS = 120_000;

export interface ReaderData {
  readonly fingerprint: string;
  readonly shapes: LinearShapes;
  readonly maxRank: number;
  readonly calibratedDir: string | null;
  readonly dtype: LoraDtype;
  /** No adapter's image may be larger. */
  readonly mostBytes: number;
}

export type ToReader = Pick<AdapterSpec, "dir" | "mode">;
export interface ReadAdapter {
  readonly image: LoraImage;
  readonly found: AdapterFinding;
}
export type FromReader = ReadAdapter | { readonly error: string; readonly needsMode: boolean };

export class AdapterReader implements Disposable {
  readonly #data: ReaderData;
  #worker: Worker | undefined;
  #reading: PromiseWithResolvers<ReadAdapter> | undefined;

  /** Cheap: the thread starts with the first adapter. */
  constructor({ calibrated, ...host }: AdapterHost, dtype: LoraDtype, mostBytes: number) {
    this.#data = { ...host, calibratedDir: calibrated?.dir ?? null, dtype, mostBytes };
  }

  /** One at a time. Rejects with an Error for the user, a ModeNeededError where only that is missing. */
  async read({ key, dir, mode, found }: AdapterSpec): Promise<ReadAdapter> {
    if (this.#reading) throw new Error(`Cannot read adapter ${key}: another one is being read`);
    const reading = Promise.withResolvers<ReadAdapter>();
    this.#reading = reading;
    this.#worker ??= this.#start();
    this.#worker.ref();
    this.#worker.postMessage({ dir, ...(mode && { mode }) } satisfies ToReader);
    const timer = setTimeout(() => {
      this.#replace(`Cannot read adapter ${dir}: it took more than ${READ_MS / 1000} s`);
    }, READ_MS);
    try {
      const read = await reading.promise;
      if (found === undefined || found.sha256 === read.found.sha256) return read;
      throw new Error(`Cannot use adapter ${key}: the files in ${dir} have changed since it was loaded; load it again`);
    } finally {
      clearTimeout(timer);
      this.#reading = undefined;
      this.#worker?.unref();
    }
  }

  #start(): Worker {
    const worker = new Worker(new URL("./adapter_reader_thread.ts", import.meta.url), { workerData: this.#data });
    worker.on("message", (answer: FromReader) => {
      if (worker !== this.#worker) return;
      if ("image" in answer) this.#reading?.resolve(answer);
      else this.#reading?.reject(new (answer.needsMode ? ModeNeededError : Error)(answer.error));
    });
    worker.on("error", (error: unknown) => {
      if (worker === this.#worker) this.#replace(`Cannot read adapters: ${String(error)}`);
    });
    return worker;
  }

  /** Gives up the thread; the next adapter gets a new one. */
  #replace(reason: string): void {
    const worker = this.#worker;
    this.#worker = undefined;
    void worker?.terminate();
    this.#reading?.reject(new Error(reason));
  }

  [Symbol.dispose](): void {
    this.#replace("Cannot read adapters: the engine is closed");
  }
}
