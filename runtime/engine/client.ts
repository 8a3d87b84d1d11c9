/**
 * The engine as the rest of the program sees it: a process that is started, watched, restarted when it dies, and asked for
 * tokens. Nothing here blocks, and no fault of the engine process reaches the caller other than as an error of a request.
 */
import type { ChildProcess } from "node:child_process";
import { ModeNeededError } from "../adapters/open.ts";
import { EngineConnection } from "./client_connection.ts";
import { OutputQueue } from "./client_queue.ts";
import type {
  AdapterFinding,
  AdapterSpec,
  EngineModelInfo,
  EngineOptions,
  EngineOutput,
  EngineRequest,
  EngineStats,
  FromEngine,
} from "./protocol.ts";
import { spawnWorker } from "./spawn.ts";

const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 30_000;
/** An engine that has run this long is not in a crash loop: the next restart starts with the shortest wait again. */
const STABLE_MS = 60_000;

export type EngineState =
  | { status: "loading"; stage: string; done: number; total: number }
  | { status: "ready"; model: EngineModelInfo }
  /** It died and is started again after a wait; `crashes` counts deaths in a row. */
  | { status: "restarting"; error: string; crashes: number }
  /** It never became ready: the same start would fail the same way, so it is not repeated. */
  | { status: "failed"; error: string }
  | { status: "closed" };

/** The engine cannot take or finish a request now; the request itself may be fine. */
export class EngineUnavailableError extends Error {
  override readonly name = "EngineUnavailableError";
  readonly state: EngineState;

  constructor(message: string, state: EngineState) {
    super(message);
    this.state = state;
  }
}

/** The engine refused a request (finish "error"); the message is for the user. */
export class EngineRequestError extends Error {
  override readonly name = "EngineRequestError";
}

/** An adapter that was loaded cannot be had again; the message is for who runs the server. */
export class AdapterUnavailableError extends Error {
  override readonly name = "AdapterUnavailableError";
}

/** An adapter that an engine has loaded. */
export type KnownAdapter = AdapterSpec & { readonly found: AdapterFinding };

export interface EngineClientOptions {
  engine: EngineOptions;
  /** URL of a module with `createEngine`; the real engine unless a test says otherwise. */
  engineModule?: string;
  /** Where the Unix socket is made; a fresh private folder unless permissions were granted for an exact path. */
  socketPath?: string;
  /** First wait before a restart; doubles with each crash in a row. */
  backoffMs?: number;
  /** Adapters that an engine which took the place of a dead one has to know again. */
  knownAdapters?: () => readonly KnownAdapter[];
  onState?: (state: EngineState) => void;
}

export class EngineClient {
  readonly #options: EngineClientOptions;
  readonly #running = new Map<string, OutputQueue>();
  readonly #queries = new Map<number, PromiseWithResolvers<EngineStats>>();
  readonly #loads = new Map<number, PromiseWithResolvers<AdapterFinding>>();
  readonly #stateWaiters = new Set<() => void>();
  #state: EngineState = { status: "loading", stage: "starting", done: 0, total: 0 };
  #connection: EngineConnection | undefined;
  #restartTimer: ReturnType<typeof setTimeout> | undefined;
  #wasReady = false;
  #readyAt = 0;
  #crashes = 0;
  #nextQuery = 0;

  /** Starts the engine process and returns at once; `ready()` waits for it. */
  constructor(options: EngineClientOptions) {
    this.#options = options;
    this.#start();
  }

  get state(): EngineState {
    return this.#state;
  }

  /** The engine's process id while one runs. */
  get pid(): number | undefined {
    return this.#connection?.child?.pid;
  }

  /** Resolves when the model is loaded; rejects with EngineUnavailableError when it cannot be, or the client is closed. */
  async ready(): Promise<EngineModelInfo> {
    for (;;) {
      const state = this.#state;
      if (state.status === "ready") return state.model;
      if (state.status === "failed") throw new EngineUnavailableError(state.error, state);
      if (state.status === "closed") throw new EngineUnavailableError("The engine was closed", state);
      await new Promise<void>((resolve) => this.#stateWaiters.add(resolve));
    }
  }

  /** The loaded model; throws EngineUnavailableError, with the reason, while there is none. */
  requireModel(): EngineModelInfo {
    if (this.#state.status !== "ready") throw this.#unavailable();
    return this.#state.model;
  }

  /**
   * Runs a request and yields what each engine step produced for it, the last item with `finish`. Outputs that arrive while
   * the caller is busy are merged into one item, so a slow caller costs at most its own request's tokens. Ending the loop
   * early or aborting `signal` aborts the request in the engine; an aborted loop ends without an item of finish "abort".
   * Throws EngineUnavailableError when no engine is ready or it dies, EngineRequestError when it refuses the request,
   * AdapterUnavailableError when the adapter that it names cannot be read again.
   */
  async *generate(request: EngineRequest, signal?: AbortSignal): AsyncGenerator<EngineOutput, void, void> {
    const connection = this.#connection;
    if (this.#state.status !== "ready" || !connection) throw this.#unavailable();
    if (signal?.aborted) return;
    if (this.#running.has(request.id)) throw new Error(`Cannot run request: its id "${request.id}" is in use`);

    const queue = new OutputQueue();
    const onAbort = () => queue.end();
    this.#running.set(request.id, queue);
    signal?.addEventListener("abort", onAbort, { once: true });
    let finished = false;
    try {
      connection.send({ type: "add", request });
      for (let output = await queue.next(); output; output = await queue.next()) {
        finished = output.finish !== undefined;
        if (output.finish === "error") {
          const Failure = output.unavailable ? AdapterUnavailableError : EngineRequestError;
          throw new Failure(output.error ?? "The engine could not run the request");
        }
        yield output;
        if (finished) return;
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.#running.delete(request.id);
      // After a restart the id means nothing to the new process, so only the connection that took the request is told.
      if (!finished) connection.send({ type: "abort", id: request.id });
    }
  }

  /** The engine's counters; rejects with EngineUnavailableError when none is ready. */
  async stats(): Promise<EngineStats> {
    if (this.#state.status !== "ready" || !this.#connection) throw this.#unavailable();
    const query = this.#nextQuery++;
    const answer = Promise.withResolvers<EngineStats>();
    this.#queries.set(query, answer);
    this.#connection.send({ type: "stats", query });
    return await answer.promise;
  }

  /**
   * Has an adapter read, checked and uploaded while requests go on; from then on requests can name its key. Rejects with
   * EngineRequestError (or ModeNeededError) when it is refused, EngineUnavailableError when no engine is ready or it dies.
   */
  async loadAdapter(adapter: AdapterSpec): Promise<AdapterFinding> {
    if (this.#state.status !== "ready" || !this.#connection) throw this.#unavailable();
    const query = this.#nextQuery++;
    const answer = Promise.withResolvers<AdapterFinding>();
    this.#loads.set(query, answer);
    this.#connection.send({ type: "load_adapter", query, adapter });
    return await answer.promise;
  }

  /** The key will not be named again; its memory is free once its last request has ended. */
  freeAdapter(key: string): void {
    this.#connection?.send({ type: "free_adapter", key });
  }

  /** Ends the engine process and every running request; resolves when the process is gone. */
  async close(): Promise<void> {
    clearTimeout(this.#restartTimer);
    const connection = this.#connection;
    this.#connection = undefined;
    this.#setState({ status: "closed" });
    this.#failRunning("The engine was closed");
    await connection?.close();
  }

  #start(): void {
    this.#connection = new EngineConnection({
      socketPath: this.#options.socketPath,
      spawn: (socketPath): ChildProcess =>
        spawnWorker({
          socketPath,
          engineModule: this.#options.engineModule ?? new URL("./engine.ts", import.meta.url).href,
          options: this.#options.engine,
        }),
      onMessage: (message) => this.#receive(message),
      onDeath: (reason) => this.#died(reason),
    });
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case "loading":
        this.#setState({ status: "loading", stage: message.stage, done: message.done, total: message.total });
        break;
      case "ready":
        this.#wasReady = true;
        this.#readyAt = performance.now();
        // Before anyone can send it a request.
        this.#connection?.send({ type: "know_adapters", adapters: this.#options.knownAdapters?.() ?? [] });
        this.#setState({ status: "ready", model: message.model });
        break;
      case "outputs":
        // An output of a request that was just aborted has no queue any more.
        for (const output of message.outputs) this.#running.get(output.id)?.push(output);
        break;
      case "stats":
        this.#queries.get(message.query)?.resolve(message.stats);
        this.#queries.delete(message.query);
        break;
      case "adapter":
        this.#loads.get(message.query)?.resolve(message.found);
        this.#loads.delete(message.query);
        break;
      case "adapter_refused": {
        const Refusal = message.needsMode ? ModeNeededError : EngineRequestError;
        this.#loads.get(message.query)?.reject(new Refusal(message.error));
        this.#loads.delete(message.query);
        break;
      }
      case "failed":
        // The connection remembers the text as the reason of the death that follows.
        break;
    }
  }

  #died(reason: string): void {
    if (this.#state.status === "closed") return;
    this.#connection = undefined;
    if (!this.#wasReady) {
      this.#setState({ status: "failed", error: reason });
    } else {
      if (this.#state.status === "ready" && performance.now() - this.#readyAt > STABLE_MS) this.#crashes = 0;
      const wait = Math.min((this.#options.backoffMs ?? FIRST_BACKOFF_MS) * 2 ** this.#crashes, LONGEST_BACKOFF_MS);
      this.#crashes++;
      this.#restartTimer = setTimeout(() => this.#start(), wait);
      this.#setState({ status: "restarting", error: reason, crashes: this.#crashes });
    }
    this.#failRunning(`The engine stopped while it ran this request: ${reason}`);
  }

  #failRunning(message: string): void {
    const error = this.#unavailable(message);
    for (const queue of this.#running.values()) queue.fail(error);
    for (const answers of [this.#queries, this.#loads]) {
      for (const answer of answers.values()) answer.reject(error);
      answers.clear();
    }
  }

  #unavailable(message?: string): EngineUnavailableError {
    const state = this.#state;
    const reason =
      state.status === "loading"
        ? `the model is being loaded (${state.stage})`
        : state.status === "restarting"
          ? `it stopped and is being restarted (${state.error})`
          : state.status === "failed"
            ? state.error
            : "it is closed";
    return new EngineUnavailableError(message ?? `Cannot run request: the engine is not ready, ${reason}`, state);
  }

  #setState(state: EngineState): void {
    this.#state = state;
    this.#options.onState?.(state);
    for (const resolve of this.#stateWaiters) resolve();
    this.#stateWaiters.clear();
  }
}
