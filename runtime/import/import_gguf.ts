/** `apiq import`: a GGUF file becomes a model folder with the same numbers in it, bit for bit. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { makeFolderAtomically, writeJson } from "../formats/atomic.ts";
import { FormatError } from "../formats/failure.ts";
import { FINGERPRINT_KEY, makeFingerprint } from "../formats/fingerprint.ts";
import { type Gguf, openGguf } from "../formats/gguf.ts";
import { type JsonObject, readJsonObject } from "../formats/json.ts";
import type { AffineScheme } from "../formats/quantization.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { type ImportedTensor, schemeOfType, tensorsOf } from "./gguf_blocks.ts";
import { checkConfig, configFromMetadata, type GgufShape, shapeOf } from "./gguf_config.ts";
import { roleOf } from "./gguf_names.ts";

/** Files beside the GGUF that belong to the model and are copied. */
const COMPANIONS = [
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "LICENSE",
];

export interface ImportOptions {
  gguf: string;
  out: string;
  /** Replaces an `out` that is a model's folder already. */
  force?: boolean;
  /** Stops between two tensors; nothing is left then. */
  signal?: AbortSignal;
}

export interface ImportResult {
  out: string;
  tensors: number;
  /** Of the safetensors file. */
  bytes: number;
  fingerprint: string;
  /** How many matrices each GGUF type had. */
  types: Record<string, number>;
  /** What the folder still lacks, in sentences. */
  warnings: string[];
}

export interface ImportProgress {
  tensor: string;
  /** Tensors written, and how many there are. */
  done: number;
  total: number;
}

/**
 * Imports a GGUF file. Memory: the packed form of its largest tensor and a slab of its source. `out` appears when all is done.
 *
 * @throws {FormatError} for a file that cannot be imported whole and without loss.
 */
export async function importGguf(
  options: ImportOptions,
  onProgress: (progress: ImportProgress) => void = () => {},
): Promise<ImportResult> {
  const gguf = openGguf(options.gguf);
  const shape = shapeOf(gguf);
  const tensors = rolesOf(gguf, shape);
  const config = configOf(gguf, shape, tensors);
  return await makeFolderAtomically(options.out, options.force ?? false, async (dir) => {
    const entries = tensors.flatMap((tensor) => tensorsOf(gguf, tensor));
    const weights = join(dir, "model.safetensors");
    const report = (progress: ImportProgress): void => {
      options.signal?.throwIfAborted();
      onProgress(progress);
    };
    const hashes = await writeSafetensors(weights, withProgress(entries, report));
    const fingerprint = makeFingerprint(config, hashes);
    await writeJson(join(dir, "config.json"), { ...config, [FINGERPRINT_KEY]: fingerprint });
    const warnings = addCompanions(dir, gguf);
    const types: Record<string, number> = {};
    for (const { source } of tensors) types[source.type] = (types[source.type] ?? 0) + 1;
    return { out: options.out, tensors: tensors.length, bytes: statSync(weights).size, fingerprint, types, warnings };
  });
}

function rolesOf(gguf: Gguf, { architecture, heads, kvHeads }: GgufShape): ImportedTensor[] {
  const tensors: ImportedTensor[] = [];
  for (const source of gguf.tensors) {
    // Frequencies made from rope_scaling; config.json, which must then be there, says them better.
    if (source.name === "rope_freqs.weight") continue;
    const fail = (reason: string, received?: unknown, expected?: unknown): FormatError =>
      new FormatError("import", { file: gguf.path, tensor: source.name, reason, received, expected });
    const role = roleOf(source.name);
    if (role === undefined) throw fail(`architecture ${architecture} has no such tensor here`);
    if (source.shape.length > 2) throw fail("wrong shape", source.shape, "one or two dimensions");
    const { module, kind, rotary } = role;
    const packed = schemeOfType(source.type) !== undefined;
    if (packed && source.shape.length !== 2) throw fail("only matrices can be quantized", source.type, "F32 or F16");
    if (architecture !== "llama" || rotary === undefined) {
      tensors.push({ source, module, kind });
      continue;
    }
    const rows = source.shape[0]!;
    const count = rotary === "q" ? heads : kvHeads;
    if (rows % (2 * count) !== 0) throw fail("its rows do not divide into heads", rows, `a multiple of ${2 * count}`);
    tensors.push({ source, module, kind, interleavedHead: rows / count });
  }
  return tensors;
}

function configOf(gguf: Gguf, shape: GgufShape, tensors: readonly ImportedTensor[]): JsonObject {
  const file = join(dirname(gguf.path), "config.json");
  const beside = existsSync(file) ? readJsonObject(file) : undefined;
  if (beside !== undefined) checkConfig(beside, file, gguf, shape);
  const { quantization_config: _, ...config } = beside ?? configFromMetadata(gguf, shape);
  const tied = !tensors.some(({ module }) => module === "lm_head");
  const quantization = quantizationOf(tensors);
  return { ...config, tie_word_embeddings: tied, ...(quantization && { quantization_config: quantization }) };
}

/** The most frequent scheme is the model's, modules with another one are listed. undefined: nothing is packed. */
function quantizationOf(tensors: readonly ImportedTensor[]): JsonObject | undefined {
  const schemes = new Map<string, AffineScheme>();
  for (const { source, module } of tensors) {
    const scheme = schemeOfType(source.type);
    if (scheme !== undefined) schemes.set(module, scheme);
  }
  const settings = ({ bits, group, zero }: AffineScheme): JsonObject => ({ bits, group_size: group, zero });
  const counts = new Map<AffineScheme, number>();
  for (const scheme of schemes.values()) counts.set(scheme, (counts.get(scheme) ?? 0) + 1);
  const [base] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? [];
  if (base === undefined) return undefined;
  const others = [...schemes]
    .filter(([, scheme]) => scheme !== base)
    .map(([module, scheme]) => [module, settings(scheme)]);
  return { quant_method: "apiq", version: 1, ...settings(base), modules: Object.fromEntries(others) };
}

/** Reports each tensor when its turn to be written comes. */
function withProgress(
  entries: readonly TensorToWrite[],
  onProgress: (progress: ImportProgress) => void,
): TensorToWrite[] {
  let done = 0;
  return entries.map((entry) => ({
    ...entry,
    data: () => {
      onProgress({ tensor: entry.name, done: done++, total: entries.length });
      return typeof entry.data === "function" ? entry.data() : [entry.data];
    },
  }));
}

/** Copies what lies beside the GGUF and says what the folder lacks. */
function addCompanions(dir: string, gguf: Gguf): string[] {
  const from = dirname(gguf.path);
  for (const name of COMPANIONS) {
    // Not copyFile, which would keep the original's permissions: a read-only source must not make a read-only model.
    if (existsSync(join(from, name))) writeFileSync(join(dir, name), readFileSync(join(from, name)));
  }
  const template = gguf.metadata.get("tokenizer.chat_template");
  const hasTemplate = ["tokenizer_config.json", "chat_template.jinja"].some((name) => existsSync(join(dir, name)));
  if (typeof template === "string" && !hasTemplate) writeFileSync(join(dir, "chat_template.jinja"), template);
  if (existsSync(join(dir, "tokenizer.json"))) return [];
  return ["There is no tokenizer: put tokenizer.json and tokenizer_config.json of the original model into the folder."];
}
