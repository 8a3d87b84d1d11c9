/**
 * Between the engine's thread, which blocks while the model runs, and the grammar processes, which may hang.
 *
 * Two processes, each started when first needed. A description that is new is compiled in the first, `trial`, and only if that
 * went well and in time in the second, `serving`, which computes the masks of all sequences. So a bad description ends at most
 * the trial process, and costs nobody but its own request; a good one delays the others' masks once, by what it takes to compile.
 */
import { GrammarProcess } from "./process_handle.ts";
import type { FromRelay, MaskRequest, RelayData, SharedMasks, ToRelay } from "./relay_protocol.ts";
import type { GrammarSpec } from "./spec.ts";

/** A good description may take this much longer the second time, on a busy machine. */
const SECOND_TIME = 4;
/** Descriptions remembered as good. The serving process forgets the compiled form of most of them sooner. */
const REMEMBERED = 256;

interface SequenceState {
  /** Whether its matcher is in the serving process. */
  isServed: boolean;
  /** Why the matcher is there no more. */
  lost?: string;
}

export class GrammarRelay {
  readonly #data: RelayData;
  readonly #shared: SharedMasks;
  readonly #send: (message: FromRelay) => void;
  readonly #good = new Set<string>();
  readonly #sequences = new Map<string, SequenceState>();
  #trial: GrammarProcess | undefined;
  #serving: GrammarProcess | undefined;

  constructor(data: RelayData, shared: SharedMasks, send: (message: FromRelay) => void) {
    this.#data = data;
    this.#shared = shared;
    this.#send = send;
  }

  handle(message: ToRelay): void {
    switch (message.type) {
      case "start":
        this.#sequences.set(message.id, { isServed: false });
        void this.#start(message.id, message.spec)
          // A description of many megabytes does not even fit a frame.
          .catch((error: unknown) => `Cannot use grammar: ${error instanceof Error ? error.message : error}`)
          .then((error) => this.#send({ id: message.id, error }));
        break;
      case "masks":
        for (const request of message.requests) void this.#mask(message.ticket, request);
        break;
      case "finish":
        if (this.#sequences.delete(message.id)) this.#serving?.tell({ type: "finish", id: message.id });
        break;
    }
  }

  close(): void {
    this.#trial?.close();
    this.#serving?.close();
  }

  /** Resolves to what went wrong, if something did. */
  async #start(id: string, spec: GrammarSpec): Promise<string | undefined> {
    const { compileMs } = this.#data.limits;
    const key = JSON.stringify(spec);
    // Starts it if it is not there, so that both processes read the tokenizer at the same time.
    this.#server();
    if (!this.#good.has(key)) {
      const error = await this.#try(id, spec);
      if (error !== undefined) return error;
      this.#remember(key);
    }
    const sequence = this.#sequences.get(id);
    if (sequence === undefined) return "the request was withdrawn";
    sequence.isServed = true;
    const { error } = await this.#server().ask({ type: "start", id, spec }, COMPILING, SECOND_TIME * compileMs);
    return error;
  }

  async #try(id: string, spec: GrammarSpec): Promise<string | undefined> {
    const { compileMs, maskMs } = this.#data.limits;
    this.#trial ??= this.#spawn(() => {
      this.#trial = undefined;
    });
    const trial = this.#trial;
    const started = trial.ask({ type: "start", id, spec }, COMPILING, compileMs);
    const mask = trial.ask({ type: "mask", id, accepted: [] }, MASKING, maskMs);
    trial.tell({ type: "finish", id });
    return (await started).error ?? (await mask).error;
  }

  #remember(key: string): void {
    this.#good.add(key);
    if (this.#good.size > REMEMBERED) this.#good.delete(this.#good.values().next().value!);
  }

  async #mask(ticket: number, { row, id, accepted }: MaskRequest): Promise<void> {
    const sequence = this.#sequences.get(id);
    if (sequence === undefined || sequence.lost !== undefined || this.#serving === undefined) {
      this.#shared.fail(row, ticket, sequence?.lost ?? "the sequence has no grammar");
      return;
    }
    const { error, mask } = await this.#serving.ask({ type: "mask", id, accepted }, MASKING, this.#data.limits.maskMs);
    if (mask === undefined) this.#shared.fail(row, ticket, error ?? "the grammar process sent no mask");
    else this.#shared.succeed(row, ticket, mask);
  }

  #server(): GrammarProcess {
    this.#serving ??= this.#spawn((reason) => {
      this.#serving = undefined;
      for (const sequence of this.#sequences.values()) {
        if (sequence.isServed) sequence.lost = `Cannot continue the output: ${reason}`;
      }
    });
    return this.#serving;
  }

  #spawn(onDeath: (reason: string) => void): GrammarProcess {
    return new GrammarProcess(this.#data.process, onDeath);
  }
}

const COMPILING = "compiling the grammar";
const MASKING = "computing which tokens the grammar allows";
