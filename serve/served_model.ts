/** A model as the routes see it: a name, an engine, and the way between text and tokens. */
import type { SamplingDefaults } from "../runtime/chat/sampling.ts";
import type { EngineClient } from "../runtime/engine/client.ts";
import type { Tokenizer } from "../runtime/tokenizer/mod.ts";
import { ApiError } from "./errors.ts";

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

/** The names that requests may use. */
export function modelNames({ name, adapters }: ServedModel): readonly string[] {
  return [name, ...adapters];
}

/** The adapter that a model name stands for, undefined for the base. Throws an ApiError (404) for other names. */
export function findAdapter(served: ServedModel, model: string): string | undefined {
  if (model === served.name) return undefined;
  if (served.adapters.includes(model)) return model;
  throw modelNotFound(served, model);
}

export function modelNotFound(served: ServedModel, model: string): ApiError {
  const known = modelNames(served).join(", ");
  return new ApiError(404, "model_not_found", `The model "${model}" does not exist; this server has ${known}`, "model");
}
