/** The flags of `serve` about its model and adapters that come and go, and what they mean. */
import { basename, resolve } from "node:path";
import { AdapterRoots } from "../../runtime/adapters/roots.ts";
import { type FlagValues, UsageError } from "../../runtime/cli/command.ts";
import { type ENGINE_FLAGS, engineClientOptions } from "../../runtime/cli/engine_flags.ts";
import type { HotAdapterLimits } from "../../runtime/engine/protocol.ts";
import type { ServedModelOptions } from "../served_model.ts";

export const ADAPTER_FLAGS = {
  adapterRoot: {
    type: "string",
    summary: "folder from which POST /v1/load_lora_adapter may load; without one it loads nothing",
    placeholder: "DIR",
    multiple: true,
  },
  watch: {
    type: "string",
    summary: "folder whose folders are adapters: each is loaded when it appears and when it changes",
    placeholder: "DIR",
  },
  maxAdapters: {
    type: "integer",
    summary: "adapters in memory at a time; those unused for longest leave it and return on demand",
    default: 16,
    min: 1,
    max: 4096,
  },
  adapterMemory: {
    type: "bytes",
    summary: "memory for them, taken at the start (default: as they come, at most a quarter of what is free)",
    min: 1,
  },
  maxAdapterRank: { type: "integer", summary: "highest rank of an adapter", default: 64, min: 1, max: 1024 },
} as const;

type AdapterFlagValues = FlagValues<typeof ADAPTER_FLAGS> & FlagValues<typeof ENGINE_FLAGS>;

export interface ModelFlagValues extends AdapterFlagValues {
  readonly model: string | undefined;
  readonly servedModelName: string | undefined;
}

/** How to serve the model that the flags name; undefined where they name none. Throws an Error for roots that are no folders. */
export async function servedModelOptions(flags: ModelFlagValues): Promise<ServedModelOptions | undefined> {
  const { model, servedModelName: name, watch } = flags;
  const hotAdapters = hotAdapterLimits(flags);
  if (model === undefined) {
    if (hotAdapters) throw new UsageError("Cannot use --adapter, --adapter-root or --watch without --model");
    return undefined;
  }
  const dir = resolve(model);
  const { engine, ...client } = engineClientOptions(dir, flags);
  return {
    dir,
    name: name ?? basename(dir),
    engine: { ...client, engine: { ...engine, ...(hotAdapters && { hotAdapters }) } },
    adapterRoots: await AdapterRoots.open(flags.adapterRoot),
    watch,
  };
}

/** Room in the engine; undefined where no flag asks for adapters. */
function hotAdapterLimits(flags: AdapterFlagValues): HotAdapterLimits | undefined {
  const { adapter, adapterRoot, watch, maxAdapters, adapterMemory, maxAdapterRank } = flags;
  if (adapter.length === 0 && adapterRoot.length === 0 && watch === undefined) return undefined;
  return { max: maxAdapters, memory: adapterMemory, maxRank: maxAdapterRank };
}
