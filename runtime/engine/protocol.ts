/**
 * What travels between the process that speaks HTTP and the engine process: msgpackr frames over a Unix socket. The engine
 * knows token ids only; text (chat templates, detokenisation, stop strings) stays on the other side.
 */

import type { AdapterMode } from "../formats/adapter.ts";
import type { GrammarSpec } from "../grammar/spec.ts";

/** How one request's tokens are drawn. Fields as in `apiq_sample_params`; see there for order and meaning. */
export interface SamplingParams {
  /** 0 takes the most likely token. */
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** 64 bits as a bigint, so that any seed survives the trip. */
  seed: bigint;
  /** Token id -> value added to its logit. */
  logitBias: readonly (readonly [token: number, bias: number])[];
  /** How many alternatives to report with each token, 0 to 20; undefined: no log-probabilities at all. */
  logprobs?: number;
}

export const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0n,
  logitBias: [],
};

/** A generation to be run, as the engine sees it. `id` is the caller's and must be unused. */
export interface EngineRequest {
  id: string;
  prompt: readonly number[];
  maxTokens: number;
  /** Drawing one of these ends the request; the token itself is reported. */
  stopTokens: readonly number[];
  sampling: SamplingParams;
  /** Key of an adapter: its name, if it was loaded with the model. Undefined: the base with its calibrated LoRA. */
  adapter?: string;
  /** What the output must be; the engine masks all tokens that would leave it. Undefined: anything. */
  grammar?: GrammarSpec;
}

export type FinishReason = "stop" | "length" | "abort" | "error";

export interface TokenLogprob {
  token: number;
  logprob: number;
  top: readonly (readonly [token: number, logprob: number])[];
}

/** What one engine step produced for one request. */
export interface EngineOutput {
  id: string;
  tokens: readonly number[];
  logprobs?: readonly TokenLogprob[];
  /** With the first token: prompt tokens that the prefix cache held. */
  sharedTokens?: number;
  /** Likewise: how long the request waited before a step took any of it. */
  queueSeconds?: number;
  finish?: FinishReason;
  /** With finish "error": what a user may read. */
  error?: string;
  /** Likewise: the request is not at fault, but its adapter's files, and `error` is for who runs the server. */
  unavailable?: boolean;
}

/** What the engine knows about the model it serves; sent once it is loaded. */
export interface EngineModelInfo {
  /** Longest sequence (prompt and output) a request may reach, in tokens. */
  contextLength: number;
  vocabSize: number;
  maxSequences: number;
  fingerprint: string;
  /** Those that were loaded with the model. */
  adapters: readonly string[];
  device: string;
  isa: string;
  threads: number;
  /** Bytes held, part by part. */
  memory: { weights: number; lora: number; kvCache: number; scratch: number };
  loadSeconds: number;
}

export interface EngineStats {
  running: number;
  waiting: number;
  kvBlocksUsed: number;
  kvBlocksTotal: number;
  /** Tokens per block. */
  kvBlockSize: number;
  /** Prompt tokens that passed through the model. */
  promptTokens: number;
  generatedTokens: number;
  /** Prompt tokens that did not have to, because the cache held their keys and values. */
  sharedTokens: number;
  steps: number;
  adapters: AdapterStats;
}

/** What adapters take, the calibrated LoRA not counted. */
export interface AdapterStats {
  /** Held on the device now, and the most that may be. */
  bytes: number;
  capacityBytes: number;
  /** How many are on the device, and how many may be. */
  resident: number;
  most: number;
  /** Keys of those that requests are being run with, and of those that requests wait for. */
  running: readonly string[];
  waiting: readonly string[];
}

/** An adapter that requests can name by its key. A key stands for the same numbers as long as the engine lives. */
export interface AdapterSpec {
  readonly key: string;
  readonly dir: string;
  readonly mode?: AdapterMode;
  /** What was found in the folder when it was loaded for the first time: anything else there is refused. */
  readonly found?: AdapterFinding;
}

/** What reading an adapter's folder told about it. */
export interface AdapterFinding {
  /** Of everything that its arithmetic depends on. */
  readonly sha256: string;
  /** On the device. */
  readonly bytes: number;
  /** The highest of its linears. */
  readonly rank: number;
  /** How many linears it targets. */
  readonly targets: number;
  readonly replaces: boolean;
}

export type ToEngine =
  | { type: "add"; request: EngineRequest }
  | { type: "abort"; id: string }
  | { type: "stats"; query: number }
  | { type: "load_adapter"; query: number; adapter: AdapterSpec }
  /** Adapters that an engine before this one had: they are read when there is room for them, or when a request names one. */
  | { type: "know_adapters"; adapters: readonly (AdapterSpec & { found: AdapterFinding })[] }
  /** Nothing names this key any more. Requests that run with it end as they began. */
  | { type: "free_adapter"; key: string }
  | { type: "shutdown" };

export type FromEngine =
  | { type: "loading"; stage: string; done: number; total: number }
  | { type: "ready"; model: EngineModelInfo }
  | { type: "failed"; error: string }
  | { type: "outputs"; outputs: readonly EngineOutput[] }
  | { type: "stats"; query: number; stats: EngineStats }
  | { type: "adapter"; query: number; found: AdapterFinding }
  /** It was refused: what a user may read, and whether saying what becomes of the calibrated LoRA would help. */
  | { type: "adapter_refused"; query: number; error: string; needsMode: boolean };

/** The engine inside its process. Implemented in engine.ts; the process around it is worker.ts. */
export interface EngineCore {
  readonly model: EngineModelInfo;
  /** Validates and queues; throws an Error with a readable message when the request cannot be run. */
  add(request: EngineRequest): void;
  abort(id: string): void;
  hasWork(): boolean;
  /** Settles when a step can do something again, where now it cannot (grammar compiled, adapter read); undefined: it can. */
  waiting(): Promise<void> | undefined;
  /** One pass over the model for the scheduled sequences; returns what it produced. */
  step(): EngineOutput[];
  stats(): EngineStats;
  /** Reads, checks and uploads an adapter while steps go on. Rejects with a readable message, or a ModeNeededError. */
  loadAdapter(adapter: AdapterSpec): Promise<AdapterFinding>;
  knowAdapters(adapters: readonly (AdapterSpec & { found: AdapterFinding })[]): void;
  freeAdapter(key: string): void;
  [Symbol.dispose](): void;
}

/** Everything `serve`, `chat` and `bench` need to start an engine. */
export interface EngineOptions {
  model: string;
  device: "auto" | "cpu" | "cuda";
  threads: number;
  contextLength: number | undefined;
  maxSequences: number;
  /** Bytes for the KV cache; undefined: what maxSequences sequences of contextLength need, at most a quarter of free memory. */
  kvMemory: number | undefined;
  /**
   * How packed linears treat their input, and what goes with it. "int8" is the fast way. "f32" is exact, with keys, values and LoRA in
   * float32 as well. "auto" is int8, but float32 arithmetic (with float16 keys, values and LoRA) for models under half a billion
   * parameters: they lose most to int8, and are fast either way.
   */
  activations: "auto" | "int8" | "f32";
  /** Loaded with the model: folders by name. */
  adapters: Readonly<Record<string, string>>;
  /** By name, where neither apiq.json nor the default is meant. */
  adapterModes?: Readonly<Record<string, AdapterMode>>;
  /** Room for adapters that are loaded while the engine runs; undefined: none. */
  hotAdapters?: HotAdapterLimits;
}

export interface HotAdapterLimits {
  /** On the device at a time; those unused for longest leave it for others, and return when a request names them. */
  max: number;
  /**
   * Bytes on the device, taken at the start; undefined: what `max` adapters of `maxRank` need, at most a quarter of free memory,
   * taken as they come.
   */
  memory: number | undefined;
  maxRank: number;
}
