/** The flags of every command that runs a model, and what they mean to the engine. */
import process from "node:process";
import { pathToFileURL } from "node:url";
import type { EngineClientOptions } from "../engine/client.ts";
import type { EngineOptions } from "../engine/protocol.ts";
import type { AdapterMode } from "../formats/adapter.ts";
import { MODE_NOTE, parseAdapterFolder } from "./adapter_flag.ts";
import { type FlagValues, UsageError } from "./command.ts";

export const ENGINE_FLAGS = {
  device: { type: "string", summary: "where the model runs", choices: ["auto", "cpu", "cuda"], default: "auto" },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
  context: { type: "integer", summary: "longest conversation in tokens (default: the model's own)", min: 1 },
  maxSequences: { type: "integer", summary: "requests that run at the same time", default: 8, min: 1, max: 1024 },
  kvMemory: { type: "bytes", summary: "memory for the KV cache (default: what the sequences need)", min: 1 },
  activations: {
    type: "string",
    summary: "arithmetic of activations",
    choices: ["auto", "int8", "f32"],
    default: "auto",
  },
  adapter: {
    type: "string",
    summary: `a LoRA adapter to load; ${MODE_NOTE}`,
    placeholder: "NAME=DIR",
    multiple: true,
  },
  engine: { type: "string", summary: "a module whose createEngine replaces the built-in engine", placeholder: "FILE" },
} as const;

type EngineFlagValues = FlagValues<typeof ENGINE_FLAGS>;

/** Throws UsageError for an adapter that is not NAME=DIR or a name given twice. */
export function engineOptions(model: string, flags: EngineFlagValues): EngineOptions {
  const adapters: Record<string, string> = {};
  const adapterModes: Record<string, AdapterMode> = {};
  for (const given of flags.adapter) {
    const equals = given.indexOf("=");
    const name = given.slice(0, equals);
    if (equals < 1 || equals === given.length - 1) {
      throw new UsageError(`Cannot read --adapter: received "${given}", expected NAME=DIR`);
    }
    if (Object.hasOwn(adapters, name)) throw new UsageError(`Cannot load two adapters of the name "${name}"`);
    const { dir, mode } = parseAdapterFolder(given.slice(equals + 1));
    adapters[name] = dir;
    if (mode) adapterModes[name] = mode;
  }
  return {
    model,
    device: flags.device,
    threads: flags.threads,
    contextLength: flags.context,
    maxSequences: flags.maxSequences,
    kvMemory: flags.kvMemory,
    activations: flags.activations,
    adapters,
    adapterModes,
  };
}

/** How to start the engine process for these flags. */
export function engineClientOptions(model: string, flags: EngineFlagValues): EngineClientOptions {
  // Under Deno the wrapper script grants one exact socket path and tells it through this variable.
  const socketPath = process.env.APIQ_SOCKET;
  return {
    engine: engineOptions(model, flags),
    ...(flags.engine !== undefined && { engineModule: pathToFileURL(flags.engine).href }),
    ...(socketPath && { socketPath }),
  };
}
