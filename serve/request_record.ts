/** One request from its arrival to its last byte: what is known of it, what may end it early, what follows its end. */
import type { ApiError } from "./errors.ts";
import type { OperationId } from "./operations.ts";

/** Filled in as it becomes known; this is what logs and traces tell. Nothing of what was asked or answered is in it. */
export interface RequestFacts {
  operation?: OperationId;
  /** Name of the client's key. */
  client?: string;
  model?: string;
  promptTokens?: number;
  /** Of those, the ones that the prefix cache held. */
  cachedTokens?: number;
  generatedTokens?: number;
  /** How long it waited for the engine to begin with it. */
  queueSeconds?: number;
  firstTokenSeconds?: number;
  /** How the first of its choices to end did. */
  finish?: "stop" | "length" | "abort" | "error";
  status?: number;
  /** Code of the error, if it ended with one. */
  error?: string;
}

export class RequestRecord {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly facts: RequestFacts = {};
  /** True when the answer goes on after its head was made; whoever makes it then calls `end`. */
  streaming = false;
  /** Counts tokens that were read or written for it. */
  spend: (tokens: number) => void = () => {};
  readonly #started = performance.now();
  readonly #stop = new AbortController();
  readonly #followers: (() => void)[] = [];
  #ended = false;

  constructor(id: string, method: string, path: string) {
    this.id = id;
    this.method = method;
    this.path = path;
  }

  /** Seconds since it arrived. */
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  /** Aborted, with an ApiError as its reason, when the answer must not go on. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Ends what is under way; the client is told why. */
  stop(reason: ApiError): void {
    this.#stop.abort(reason);
  }

  whenEnded(follow: () => void): void {
    this.#followers.push(follow);
  }

  /** It is over; calls after the first change nothing. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const follow of this.#followers) follow();
  }
}
