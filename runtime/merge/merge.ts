/** `apiq merge`: several LoRA adapters of one model become one PEFT adapter, or are added to the weights of a 16-bit export. */
import { join } from "node:path";
import { type ExportDtype, type ExportProgress, type ExportResult, exportModel } from "../export/export_model.ts";
import { BINDING } from "../formats/adapter.ts";
import { type LoraToWrite, writeAdapter } from "../formats/adapter_writer.ts";
import { makeFolderAtomically, writeJson } from "../formats/atomic.ts";
import {
  type AdapterSource,
  type Checkpoint,
  checkBinding,
  FormatError,
  openAdapter,
  openCheckpoint,
  readTensor,
} from "../formats/mod.ts";
import { parseConfig } from "../models/config.ts";
import { linearNames, type NamedLinear } from "../models/linear_names.ts";
import { refuseInside } from "../quantize/partial_folder.ts";
import { joinRanks, type LoraFactors, truncateRanks } from "./join.ts";
import { type MergeTerms, type Mode, mergeTerms, type WeightedAdapter } from "./terms.ts";

export interface MergeOptions {
  readonly model: string;
  readonly adapters: readonly { readonly dir: string; readonly weight: number }[];
  readonly out: string;
  /** Of adapters that have no apiq.json. */
  readonly mode: Mode | null;
  /** Stops between two tensors; nothing is left then. */
  readonly signal?: AbortSignal;
}

export interface JoinOptions extends MergeOptions {
  /** Of the result at the most; null: as many as all have together, which is exact. */
  readonly rank: number | null;
}

export interface JoinResult {
  readonly out: string;
  /** Linears that the adapter has matrices for, and the largest rank of them. */
  readonly linears: number;
  readonly rank: number;
  /** Of the tensors. */
  readonly bytes: number;
  /** Whether it takes the place of the model's calibrated LoRA; otherwise it comes on top of it. */
  readonly replaces: boolean;
  /** What a lower rank has left, as a part of the squares of all that it was cut from; null where nothing was cut off. */
  readonly kept: number | null;
}

/**
 * Writes an adapter that does what the weighted sum of all does. Memory: some times that of one linear's matrices.
 *
 * @throws {FormatError} for an adapter that is not this model's, and for DoRA
 */
export async function joinAdapters(
  options: JoinOptions,
  onLinear: (done: number, total: number) => void = () => {},
): Promise<JoinResult> {
  const { model, out, rank, signal } = options;
  const { checkpoint, linears, terms } = openAll(options);
  if (options.adapters.length === 1 && rank === null) refuseMerging(checkpoint, linears, options);
  if (terms.adapter.length === 0)
    throw new Error("Cannot join the adapters: nothing is left of weights that are all 0");
  for (const { adapter } of terms.adapter) refuseDora(adapter);
  refuseInside(out, model);
  const joined = linears.flatMap((linear) => {
    const targets = terms.adapter.flatMap(({ adapter, weight }) => {
      const target = adapter.targets.get(linear.module);
      return target === undefined ? [] : [{ ...target, scale: weight * target.scale }];
    });
    return targets.length === 0 ? [] : [{ ...linear, targets, all: targets.reduce((sum, t) => sum + t.rank, 0) }];
  });
  const cuts = new Map<string, { squares: number; kept: number }>();
  let done = 0;
  const make = remembered(({ module, targets, all }: (typeof joined)[number]): LoraFactors => {
    signal?.throwIfAborted();
    onLinear(done++, joined.length);
    const factors = targets.map(({ a, b, ...rest }) => ({ a: readTensor(a), b: readTensor(b), ...rest }));
    if (rank === null || rank >= all) return joinRanks(factors);
    const result = truncateRanks(factors, rank);
    cuts.set(module, result);
    return result;
  });
  const loras = joined.map((linear): LoraToWrite => {
    const { module, outFeatures, inFeatures, targets, all } = linear;
    const own = Math.min(rank ?? all, all);
    const scale = own < all ? 1 : Math.abs(targets[0]!.scale);
    const a = { dtype: "F32", shape: [own, inFeatures], data: () => [bytesOf(make(linear).a)] } as const;
    const b = { dtype: "F32", shape: [outFeatures, own], data: () => [bytesOf(make(linear).b)] } as const;
    return { module, rank: own, alpha: scale * own, a, b, magnitude: null };
  });
  await makeFolderAtomically(out, false, async (dir) => {
    await writeAdapter(dir, { loras, modules: linears.map(({ module }) => module) });
    await writeJson(join(dir, BINDING), { base: checkpoint.fingerprint, replaces: terms.replaces });
  });
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    out,
    linears: loras.length,
    rank: Math.max(...loras.map((lora) => lora.rank)),
    bytes: 4 * sum(joined.map(({ outFeatures, inFeatures }, i) => loras[i]!.rank * (outFeatures + inFeatures))),
    replaces: terms.replaces,
    kept:
      cuts.size === 0
        ? null
        : sum([...cuts.values()].map((c) => c.kept)) / sum([...cuts.values()].map((c) => c.squares)),
  };
}

export interface MergedExportOptions extends MergeOptions {
  readonly dtype: ExportDtype;
}

/** Writes the base with the weighted sum of the adapters added to its weights, as `apiq export` writes it. */
export async function exportMerged(
  options: MergedExportOptions,
  onProgress?: (progress: ExportProgress) => void,
): Promise<ExportResult> {
  const { model, out, dtype, signal } = options;
  const { terms } = openAll(options);
  refuseMixedDora(terms, options.adapters.length);
  const merge = { adapters: terms.all, ...(signal && { signal }) };
  return await exportModel({ model, out, dtype, ...merge }, onProgress);
}

interface Opened {
  readonly checkpoint: Checkpoint;
  readonly linears: readonly NamedLinear[];
  readonly terms: MergeTerms;
}

/** Everything checked that can be from headers. */
function openAll({ model, adapters, mode }: MergeOptions): Opened {
  const checkpoint = openCheckpoint(model);
  const linears = linearNames(parseConfig(checkpoint.config, join(model, "config.json")));
  const opened = adapters.map(({ dir, weight }): WeightedAdapter => ({ adapter: openAdapter(dir), weight }));
  for (const { adapter } of opened) {
    checkBinding(adapter, checkpoint.fingerprint);
    checkTargets(adapter, linears, model);
  }
  return { checkpoint, linears, terms: mergeTerms(checkpoint.initAdapter ?? null, opened, mode) };
}

function checkTargets({ dir, targets }: AdapterSource, linears: readonly NamedLinear[], model: string): void {
  const known = new Map(linears.map((linear) => [linear.module, linear]));
  for (const [module, { a, b }] of targets) {
    const linear = known.get(module);
    const refuse = (reason: string, received: unknown, expected: unknown): FormatError =>
      new FormatError("use", { file: dir, tensor: module, reason, received, expected });
    if (!linear) throw refuse(`${model} has no such linear`, module, `one of its ${linears.length}`);
    const { outFeatures, inFeatures } = linear;
    if (b.shape[0] === outFeatures && a.shape[1] === inFeatures) continue;
    throw refuse("wrong shape", [b.shape[0], a.shape[1]], [outFeatures, inFeatures]);
  }
}

/** One adapter, nothing to join: what is wanted is a model with other weights. */
function refuseMerging(checkpoint: Checkpoint, linears: readonly NamedLinear[], { adapters }: MergeOptions): never {
  const sources = linears.map(({ module, outFeatures, inFeatures }) =>
    checkpoint.linear(module, outFeatures, inFeatures),
  );
  const bits = sources.flatMap((source) => (source.kind === "dense" ? [] : [source.bits]));
  const reason =
    bits.length === 0
      ? "there is one adapter, so nothing to join"
      : `weights packed in ${[...new Set(bits)].sort().join(", ")} bits cannot hold W + B A: rounding the sum to the packed ` +
        "levels again would lose most of what the adapter learned";
  throw new Error(
    `Cannot merge ${adapters[0]!.dir} into ${checkpoint.dir}: ${reason}. Possible are: --export-fp16, the sum as a model in 16 ` +
      "bits; apiq serve --adapter NAME=DIR, the adapter beside the model as it is; a second --adapter, both joined into one; " +
      "--method svd --rank N, the adapter with a lower rank",
  );
}

const DORA_REASON = "it is DoRA, which gives the rows of W + B A their lengths anew, so adapters do not add up";

function refuseDora({ dir, targets }: AdapterSource): void {
  if (![...targets.values()].some(({ magnitude }) => magnitude)) return;
  throw new FormatError("use", { file: dir, reason: `${DORA_REASON}; alone it can be merged with --export-fp16` });
}

/** On what lies below it a single DoRA adapter is what serving makes of it. */
function refuseMixedDora({ all }: MergeTerms, adapters: number): void {
  for (const { adapter, weight } of all) {
    if (weight === 1 && adapters === 1) continue;
    if ([...adapter.targets.values()].some(({ magnitude }) => magnitude)) {
      throw new FormatError("use", { file: adapter.dir, reason: DORA_REASON });
    }
  }
}

/** Remembers the last result: A and B of a linear are asked for one after the other. */
function remembered<K, V>(make: (key: K) => V): (key: K) => V {
  let last: { key: K; value: V } | null = null;
  return (key) => {
    if (last?.key !== key) last = { key, value: make(key) };
    return last.value;
  };
}

const bytesOf = (values: Float32Array<ArrayBuffer>): Uint8Array => new Uint8Array(values.buffer);
