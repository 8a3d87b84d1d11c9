/** A model as the routes see it: a name, an engine, and the way between text and tokens. */
import type { SamplingDefaults } from "../runtime/chat/sampling.ts";
import type { EngineClient } from "../runtime/engine/client.ts";
import type { Tokenizer } from "../runtime/tokenizer/mod.ts";

export interface ServedModel {
  /** The name that requests use for the base model; adapters go by their own. */
  readonly name: string;
  readonly adapters: readonly string[];
  readonly engine: EngineClient;
  readonly tokenizer: Tokenizer;
  readonly defaults: SamplingDefaults;
  /** Unix time in seconds at which it was first served. */
  readonly created: number;
}
