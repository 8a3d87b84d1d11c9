/**
 * Grammars for the engine: which tokens a sequence may go on with, computed while the engine's thread runs the model.
 *
 *     engine's thread              relay thread               trial and serving processes
 *     request(rows)  ------------>  handle  ---------------->  accept tokens, compute mask
 *     (forward pass, blocks)        write mask, notify  <----
 *     collect(), masks              (shared memory)
 *
 * Nothing here can hang the engine: processes have time limits and are killed, the relay thread runs no foreign code, and
 * `collect` gives up on it too.
 */
import { Worker } from "node:worker_threads";
import type { GrammarProcessArguments } from "./process_protocol.ts";
import {
  type FromRelay,
  type MaskRequest,
  type RelayData,
  type RelayLimits,
  SharedMasks,
  type ToRelay,
} from "./relay_protocol.ts";
import { GrammarError, type GrammarSpec } from "./spec.ts";

export const DEFAULT_LIMITS: RelayLimits = { compileMs: 5_000, maskMs: 2_000 };
/** The relay answers within its own limits. When it is silent for this long, it is broken. */
const SILENCE_MS = 30_000;
/** Tickets stay in int32, where their sign tells success from failure. */
const LAST_TICKET = 2 ** 30;

export interface GrammarServiceOptions extends GrammarProcessArguments {
  /** Rows of the mask matrix: the most sequences of one step. */
  rows: number;
  limits?: RelayLimits;
}

export class GrammarService implements Disposable {
  readonly #options: GrammarServiceOptions;
  readonly #starting = new Map<string, { resolve(): void; reject(error: Error): void }>();
  #relay: { worker: Worker; shared: SharedMasks };
  #ticket = 0;
  #requested: readonly MaskRequest[] = [];

  /** Cheap: processes start with the first grammar. */
  constructor(options: GrammarServiceOptions) {
    this.#options = options;
    this.#relay = this.#startRelay();
  }

  /** uint32 [rows, ceil(vocabSize / 32)], as apiq_sample takes it; the rows of the last `collect` are valid until the next `request`. */
  get masks(): Uint32Array {
    return this.#relay.shared.masks;
  }

  /**
   * Gives sequence `id` a grammar. Resolves once masks can be requested for it, typically after some 100 ms for a new
   * description and 1 ms for a known one; the engine goes on stepping meanwhile and must let its event loop turn.
   *
   * @throws {GrammarError} saying what is wrong with the description, or that it took too long.
   */
  start(id: string, spec: GrammarSpec): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#starting.has(id)) {
        reject(new GrammarError(`Cannot start grammar: sequence ${id} has one`));
        return;
      }
      this.#starting.set(id, { resolve, reject });
      // A promise that somebody waits for keeps the process alive; an idle relay does not.
      this.#relay.worker.ref();
      this.#post({ type: "start", id, spec });
    });
  }

  /**
   * Asks for masks: for each row, the sequence and the tokens that were drawn for it since its last mask. Returns at once.
   * `collect` must follow before the next `request`.
   */
  request(requests: readonly MaskRequest[]): void {
    this.#ticket = (this.#ticket % LAST_TICKET) + 1;
    this.#requested = requests;
    if (requests.length > 0) this.#post({ type: "masks", ticket: this.#ticket, requests });
  }

  /**
   * Blocks until the requested masks are there; normally they are. Returns what went wrong, by sequence: those have no mask
   * and must be ended with that error.
   */
  collect(): Map<string, string> {
    const failures = new Map<string, string>();
    const deadline = performance.now() + SILENCE_MS;
    for (const { row, id } of this.#requested) {
      const answer = this.#relay.shared.wait(row, this.#ticket, deadline);
      if (answer === undefined) {
        const reason = "Cannot continue the output: the grammar thread does not answer";
        for (const request of this.#requested) failures.set(request.id, reason);
        this.#replaceRelay(reason);
        break;
      }
      if (answer.error !== undefined) failures.set(id, answer.error);
    }
    this.#requested = [];
    return failures;
  }

  /** The sequence has ended, for whatever reason; also right after a `start` that is still under way. */
  finish(id: string): void {
    this.#post({ type: "finish", id });
  }

  [Symbol.dispose](): void {
    this.#fail("Cannot start grammar: the engine is closed");
    this.#relay.worker.postMessage({ type: "close" });
  }

  #post(message: ToRelay): void {
    this.#relay.worker.postMessage(message);
  }

  #startRelay(): { worker: Worker; shared: SharedMasks } {
    const { model, vocabSize, rows, limits = DEFAULT_LIMITS } = this.#options;
    const shared = new SharedMasks(rows, vocabSize);
    const workerData: RelayData = { process: { model, vocabSize }, limits, shared: shared.buffer, rows };
    const worker = new Worker(new URL("./relay_thread.ts", import.meta.url), { workerData });
    worker.on("message", (message: FromRelay) => this.#started(message));
    worker.on("error", (error: unknown) => {
      if (worker === this.#relay.worker) this.#replaceRelay(`Cannot use grammars: ${String(error)}`);
    });
    worker.unref();
    return { worker, shared };
  }

  /** Sequences of the old relay get an error from the new one, which does not know them. */
  #replaceRelay(reason: string): void {
    this.#relay.worker.postMessage({ type: "close" });
    this.#relay = this.#startRelay();
    this.#fail(reason);
  }

  #started({ id, error }: FromRelay): void {
    const waiting = this.#starting.get(id);
    this.#starting.delete(id);
    if (this.#starting.size === 0) this.#relay.worker.unref();
    if (error === undefined) waiting?.resolve();
    else waiting?.reject(new GrammarError(error));
  }

  #fail(reason: string): void {
    for (const { reject } of this.#starting.values()) reject(new GrammarError(reason));
    this.#starting.clear();
  }
}
