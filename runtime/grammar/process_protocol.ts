/** What travels between the relay thread and a grammar process: frames (see engine/frames.ts) over its stdin and stdout. */
import type { GrammarSpec } from "./spec.ts";

export interface GrammarProcessArguments {
  /** Model folder whose tokenizer the grammars are over. */
  model: string;
  /** Columns of the model's logits. */
  vocabSize: number;
}

/** Worked off in order. `start` and `mask` are each answered by one GrammarReply; `finish` is not. */
export type GrammarCommand =
  | { type: "start"; id: string; spec: GrammarSpec }
  | { type: "mask"; id: string; accepted: readonly number[] }
  | { type: "finish"; id: string };

/** `mask`: ceil(vocabSize / 32) little-endian uint32, as bytes. `error`: what a user may read. */
export interface GrammarReply {
  error?: string;
  mask?: Uint8Array;
}
