/**
 * What travels between the process that speaks HTTP and the engine process: msgpackr frames over a Unix socket. The engine
 * knows token ids only; text (chat templates, detokenisation, stop strings) stays on the other side.
 */

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
  /** Name of an adapter, or undefined for the base with its calibrated LoRA. */
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
  finish?: FinishReason;
  /** With finish "error": what a user may read. */
  error?: string;
}

/** What the engine knows about the model it serves; sent once it is loaded. */
export interface EngineModelInfo {
  /** Longest sequence (prompt and output) a request may reach, in tokens. */
  contextLength: number;
  vocabSize: number;
  maxSequences: number;
  fingerprint: string;
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
  /** Prompt tokens that passed through the model. */
  promptTokens: number;
  generatedTokens: number;
  /** Prompt tokens that did not have to, because the cache held their keys and values. */
  sharedTokens: number;
  steps: number;
}

export type ToEngine =
  | { type: "add"; request: EngineRequest }
  | { type: "abort"; id: string }
  | { type: "stats"; query: number }
  | { type: "shutdown" };

export type FromEngine =
  | { type: "loading"; stage: string; done: number; total: number }
  | { type: "ready"; model: EngineModelInfo }
  | { type: "failed"; error: string }
  | { type: "outputs"; outputs: readonly EngineOutput[] }
  | { type: "stats"; query: number; stats: EngineStats };

/** The engine inside its process. Implemented in engine.ts; the process around it is worker.ts. */
export interface EngineCore {
  readonly model: EngineModelInfo;
  /** Validates and queues; throws an Error with a readable message when the request cannot be run. */
  add(request: EngineRequest): void;
  abort(id: string): void;
  hasWork(): boolean;
  /** Settles when a step can do something again, where now it cannot (grammars are being compiled); undefined: it can. */
  waiting(): Promise<void> | undefined;
  /** One pass over the model for the scheduled sequences; returns what it produced. */
  step(): EngineOutput[];
  stats(): EngineStats;
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
  adapters: Readonly<Record<string, string>>;
}
