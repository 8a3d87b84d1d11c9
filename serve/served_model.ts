/** A model as the routes see it: a name, an engine, and the way between text and tokens. */
import type { TokenStream } from "../runtime/chat/generate.ts";
import type { SamplingDefaults } from "../runtime/chat/sampling.ts";
import type { EngineClient } from "../runtime/engine/client.ts";
import type { ChatMessage } from "./schemas.ts";

/** What the routes need of a model's tokenizer and chat template. */
export interface TextModel {
  /** The ids of a conversation, ending where the assistant begins to speak. Throws if the template refuses it. */
  encodeChat(messages: readonly ChatMessage[]): number[];
  /** A fresh detokeniser for one answer. */
  stream(): TokenStream;
  /** The bytes a single token stands for; they need not be whole characters. */
  tokenBytes(token: number): Uint8Array;
  /** Tokens that end an answer. */
  readonly stopTokens: readonly number[];
}

export interface ServedModel {
  /** The name that requests use for the base model; adapters go by their own. */
  readonly name: string;
  readonly adapters: readonly string[];
  readonly engine: EngineClient;
  readonly text: TextModel;
  readonly defaults: SamplingDefaults;
  /** Unix time in seconds at which it was first served. */
  readonly created: number;
}
