/** The calibrated LoRA and the adapters that are loaded with the model; how much room is left for those that come later. */
import { freemem } from "node:os";
import type { Context } from "../../ffi/mod.ts";
import { type AdapterHost, type FittingAdapter, openFitting } from "../adapters/open.ts";
import type { AdapterSource, Checkpoint } from "../formats/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { linearNames } from "../models/linear_names.ts";
import { CALIBRATED_SLOT, LoraTable } from "../models/lora.ts";
import { checkTargets, imageBytes, type LoraDtype, readImage } from "../models/lora_image.ts";
import { LoraUpload } from "../models/lora_upload.ts";
import type { DecoderWeights } from "../models/weights.ts";
import type { EngineOptions, HotAdapterLimits } from "./protocol.ts";

export interface OpenedAdapters {
  readonly host: AdapterHost;
  /** In the order of their slots, which begin behind the calibrated LoRA's. */
  readonly named: readonly (readonly [name: string, adapter: FittingAdapter])[];
  readonly hot: HotAdapterLimits | undefined;
}

/** Opens and checks all of them. Throws an Error for one that does not fit. */
export function openAdapters(checkpoint: Checkpoint, config: DecoderConfig, options: EngineOptions): OpenedAdapters {
  const { fingerprint, initAdapter: calibrated = null } = checkpoint;
  const shapes = new Map(linearNames(config).map(({ module, ...shape }) => [module, shape]));
  if (calibrated) checkTargets(calibrated, shapes, Number.POSITIVE_INFINITY);
  const anyRank: AdapterHost = { fingerprint, shapes, maxRank: Number.POSITIVE_INFINITY, calibrated };
  const named = Object.entries(options.adapters).map(([name, dir]) => {
    return [name, openFitting(dir, anyRank, options.adapterModes?.[name])] as const;
  });
  const present = [...(calibrated ? [calibrated] : []), ...named.map(([, { source }]) => source)];
  const maxRank = Math.max(options.hotAdapters?.maxRank ?? 1, ...present.map(highestRank));
  return { host: { ...anyRank, maxRank }, named, hot: options.hotAdapters };
}

/** Places all of them in a table with room for `hot` more; null where there is nothing to place and nothing to come. */
export function loadAdapters(
  context: Context,
  weights: DecoderWeights,
  { host, named, hot }: OpenedAdapters,
  dtype: LoraDtype,
): LoraTable | null {
  const { calibrated } = host;
  if (!calibrated && named.length === 0 && !hot) return null;
  const bytesOf = (sources: readonly AdapterSource[]) =>
    sources.reduce((sum, source) => sum + imageBytes(source, dtype), 0);
  const atStart = bytesOf([...(calibrated ? [calibrated] : []), ...named.map(([, { source }]) => source)]);
  const table = new LoraTable(context, weights, {
    slots: 1 + named.length + (hot?.max ?? 0),
    poolBytes: atStart + (hot ? hotBytes(host, hot, dtype) : 0),
    // Memory that was asked for by its size is there from the start.
    readyBytes: atStart + (hot?.memory ?? 0),
    maxRank: host.maxRank,
    dtype,
  });
  try {
    if (calibrated) load(context, table, CALIBRATED_SLOT, { source: calibrated, replaces: false }, null);
    for (const [index, [, adapter]] of named.entries()) load(context, table, 1 + index, adapter, calibrated);
    return table;
  } catch (error) {
    table[Symbol.dispose]();
    throw error;
  }
}

function load(
  context: Context,
  table: LoraTable,
  slot: number,
  { source, replaces }: FittingAdapter,
  calibrated: AdapterSource | null,
): void {
  const image = readImage(source, table.dtype, replaces ? null : calibrated);
  table.occupy(slot, replaces);
  // The pool was made large enough for all of them.
  const base = table.space.take(image.data.length)!;
  using upload = new LoraUpload(context, table, slot, base, image);
  upload.advance(Number.POSITIVE_INFINITY);
}

/** What was asked for, or what as many adapters of the highest rank on all linears need, up to a quarter of free memory. */
function hotBytes({ shapes }: AdapterHost, { max, maxRank, memory }: HotAdapterLimits, dtype: LoraDtype): number {
  const perRank = [...shapes.values()].reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);
  const needed = max * maxRank * perRank * (dtype === "f16" ? 2 : 4);
  return memory ?? Math.floor(Math.min(needed, freemem() / 4));
}

function highestRank(adapter: AdapterSource): number {
  return Math.max(...[...adapter.targets.values()].map(({ rank }) => rank));
}
