/** `apiq export`: a packed model becomes a plain Hugging Face folder that every tool can read. */
import { cpSync, statSync } from "node:fs";
import { join } from "node:path";
import { Context } from "../../ffi/mod.ts";
import { checkReplaceable, makeFolderAtomically, writeJson } from "../formats/atomic.ts";
import { INIT_ADAPTER } from "../formats/checkpoint.ts";
import { FINGERPRINT_KEY, makeFingerprint } from "../formats/fingerprint.ts";
import {
  type AdapterSource,
  type Checkpoint,
  dtypeBytes,
  elementCount,
  FLOAT_DTYPES,
  type FloatDtype,
  FormatError,
  type LinearSource,
  openCheckpoint,
  type StoredTensor,
  schemeOf,
  weightTensors,
} from "../formats/mod.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";
import { parseConfig } from "../models/config.ts";
import { copyCompanions, SHARD_BYTES, writeShards } from "../quantize/assemble.ts";
import { refuseInside } from "../quantize/partial_folder.ts";
import { convertedTensor, expandedMatrix } from "./dense_tensors.ts";

/** Names of Hugging Face's config.json. */
export const EXPORT_DTYPES = { float16: "F16", bfloat16: "BF16", float32: "F32" } as const;
export type ExportDtype = keyof typeof EXPORT_DTYPES;

export interface ExportOptions {
  model: string;
  out: string;
  dtype: ExportDtype;
  /** Adds the calibrated LoRA to the weights; otherwise it is copied as an adapter. */
  mergeLora?: boolean;
  /** Added to the weights in this order, each times its weight; then the calibrated LoRA is merged or gone, and not copied. */
  adapters?: readonly { readonly adapter: AdapterSource; readonly weight: number }[];
  /** Replaces an `out` that is a model's folder already. */
  force?: boolean;
  /** Checks everything and counts, writes nothing. */
  dryRun?: boolean;
  /** Largest file of tensors. */
  shardBytes?: number;
  /** Stops between two tensors; nothing is left then. */
  signal?: AbortSignal;
}

export interface ExportResult {
  out: string;
  dtype: ExportDtype;
  tensors: number;
  /** Matrices that were packed. */
  unpacked: number;
  /** Of the tensors. */
  bytes: number;
  calibratedLora: "none" | "copied" | "merged" | "replaced";
  /** null in a dry run. */
  fingerprint: string | null;
}

export interface ExportProgress {
  tensor: string;
  /** Tensors written, and how many there are. */
  done: number;
  total: number;
}

/**
 * Exports a model. Memory: the packed form of its largest matrix, and some megabytes of it in float32. `out` appears when all is
 * done.
 *
 * @throws {FormatError} for a model that cannot be read, and for values that `dtype` cannot hold
 */
export async function exportModel(
  options: ExportOptions,
  onProgress: (progress: ExportProgress) => void = () => {},
): Promise<ExportResult> {
  const { model, out, dtype, mergeLora = false, shardBytes = SHARD_BYTES } = options;
  if (out === "") throw new Error("Cannot write the result: --out is empty, expected a folder to make");
  refuseInside(out, model);
  const checkpoint = openCheckpoint(model);
  parseConfig(checkpoint.config, join(model, "config.json"));
  const { initAdapter } = checkpoint;
  if (mergeLora && initAdapter === undefined) {
    throw new FormatError("use", {
      file: model,
      reason: `--merge-lora needs a calibrated LoRA, and there is no ${INIT_ADAPTER}`,
    });
  }
  using context = Context.open({ device: "cpu" });
  const packed = packedModules(checkpoint);
  const merged = options.adapters ?? (mergeLora && initAdapter ? [{ adapter: initAdapter, weight: 1 }] : []);
  const tensors = plan(context, checkpoint, packed, merged, EXPORT_DTYPES[dtype]);
  const result = {
    out,
    dtype,
    tensors: tensors.length,
    unpacked: packed.size,
    bytes: tensors.reduce((sum, tensor) => sum + elementCount(tensor.shape) * dtypeBytes(tensor.dtype), 0),
    calibratedLora: whereTo(initAdapter, options, merged),
  } as const;
  if (options.dryRun) {
    checkReplaceable(out, options.force ?? false);
    return { ...result, fingerprint: null };
  }
  return await makeFolderAtomically(out, options.force ?? false, async (dir) => {
    let done = 0;
    const watched = tensors.map((tensor) => ({
      ...tensor,
      data: () => {
        options.signal?.throwIfAborted();
        onProgress({ tensor: tensor.name, done: done++, total: tensors.length });
        return typeof tensor.data === "function" ? tensor.data() : [tensor.data];
      },
    }));
    const hashes = await writeShards(dir, watched, shardBytes);
    const { quantization_config: _, [FINGERPRINT_KEY]: __, ...kept } = checkpoint.config;
    const config = { ...kept, ...("dtype" in kept && { dtype }), torch_dtype: dtype };
    const fingerprint = makeFingerprint(config, hashes);
    await writeJson(join(dir, "config.json"), { ...config, [FINGERPRINT_KEY]: fingerprint });
    copyCompanions(model, dir);
    if (result.calibratedLora === "copied") copyAdapter(join(model, INIT_ADAPTER), join(dir, INIT_ADAPTER));
    return { ...result, fingerprint };
  });
}

type Merged = NonNullable<ExportOptions["adapters"]>;

function whereTo(
  calibrated: AdapterSource | undefined,
  { mergeLora, adapters }: ExportOptions,
  merged: Merged,
): ExportResult["calibratedLora"] {
  if (calibrated === undefined) return "none";
  if (merged.some(({ adapter }) => adapter.dir === calibrated.dir)) return "merged";
  return adapters === undefined && !mergeLora ? "copied" : "replaced";
}

/** Every packed matrix by its module, checked as the loader checks it. */
function packedModules(checkpoint: Checkpoint): Map<string, LinearSource> {
  const modules = new Map<string, LinearSource>();
  for (const [name, { shape }] of checkpoint.tensors) {
    const module = /^(.+)\.qweight$/.exec(name)?.[1];
    if (module === undefined) continue;
    const bits = checkpoint.quantization === undefined ? 32 : schemeOf(checkpoint.quantization, module).bits;
    modules.set(module, checkpoint.linear(module, shape[1] ?? 0, Math.floor(((shape[0] ?? 0) * 32) / bits)));
  }
  return modules;
}

/** The folder's tensors in the order of the source's. */
function plan(
  context: Context,
  checkpoint: Checkpoint,
  packed: ReadonlyMap<string, LinearSource>,
  merged: Merged,
  dtype: FloatDtype,
): TensorToWrite[] {
  const matrices = new Map(packed);
  for (const [module, { a, b }] of merged.flatMap(({ adapter }) => [...adapter.targets])) {
    matrices.set(module, checkpoint.linear(module, b.shape[0]!, a.shape[1]!));
  }
  const consumed = new Set([...matrices.values()].flatMap(weightTensors).map(({ name }) => name));
  for (const module of packed.keys()) consumed.add(`${module}.g_idx`);
  const rest = [...checkpoint.tensors.values()].filter(({ name }) => !consumed.has(name));
  return [
    ...[...matrices].map(([module, source]) => {
      const loras = merged.flatMap(({ adapter, weight }) => {
        const target = adapter.targets.get(module);
        return target === undefined ? [] : [{ ...target, scale: weight * target.scale }];
      });
      return expandedMatrix(context, `${module}.weight`, source, loras, dtype);
    }),
    ...rest.map((tensor) => convertedTensor(tensor, isFloat(tensor) ? dtype : tensor.dtype)),
  ];
}

const isFloat = ({ dtype }: StoredTensor): boolean => (FLOAT_DTYPES as readonly string[]).includes(dtype);

function copyAdapter(from: string, to: string): void {
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    if (statSync(join(from, name)).isFile()) cpSync(join(from, name), join(to, name));
  }
}
