/** PEFT's LoRA adapters: adapter_config.json and adapter_model.safetensors, read as peft 0.21 would apply them. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { FLOAT_DTYPES } from "./dtype.ts";
import { FormatError } from "./failure.ts";
import { FINGERPRINT } from "./fingerprint.ts";
import { isObject, type JsonObject, readJsonObject } from "./json.ts";
import { type NamePattern, parsePatterns } from "./name_pattern.ts";
import { readTensor } from "./read.ts";
import { openSafetensors, type StoredTensor } from "./safetensors.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = "adapter_model.safetensors";
export const BINDING = "apiq.json";
/** The files of an adapter's folder that are read; the last may be absent. */
export const ADAPTER_FILES = [CONFIG, WEIGHTS, BINDING] as const;
const TENSOR_NAME =
  /^base_model\.model\.(.+)\.lora_(?:(A|B)(?:\.default)?\.weight|(magnitude_vector)(?:\.default)?(?:\.weight)?)$/;

/** The two matrices of one linear: y += scale * (x a^T) b^T, and what makes it DoRA. */
export interface LoraTarget {
  /** [rank, in], F32, F16 or BF16 */
  readonly a: StoredTensor;
  /** [out, rank] */
  readonly b: StoredTensor;
  /** [out], DoRA's length of each row of W + scale b a (arXiv 2402.09353); null for plain LoRA */
  readonly magnitude: StoredTensor | null;
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, or alpha / sqrt(rank) for rsLoRA */
  readonly scale: number;
}

/** A `LoraTarget` read into memory. */
export interface LoraMatrices {
  /** [rank, in] */
  readonly a: Float32Array<ArrayBuffer>;
  /** [out, rank] */
  readonly b: Float32Array<ArrayBuffer>;
  /** [out] */
  readonly magnitude: Float32Array<ArrayBuffer> | null;
  readonly rank: number;
  readonly scale: number;
}

/** @throws {FormatError} when the file has become shorter since it was opened. */
export function readLora({ a, b, magnitude, rank, scale }: LoraTarget): LoraMatrices {
  return { a: readTensor(a), b: readTensor(b), magnitude: magnitude && readTensor(magnitude), rank, scale };
}

/** What becomes of the model's calibrated LoRA in requests for an adapter: the adapter takes its place, or comes on top of it. */
export type AdapterMode = "replace" | "stack";

/** apiq.json: what an adapter that was trained here goes with. */
export interface AdapterBinding {
  /** The base's fingerprint. */
  readonly base: string;
  /** The adapter was trained from the base's calibrated LoRA and takes its place; otherwise it comes on top of it. */
  readonly replaces: boolean;
}

export interface AdapterSource {
  readonly dir: string;
  /** null: it was made elsewhere, for the full-precision base. */
  readonly binding: AdapterBinding | null;
  /** The configured rank; a rank_pattern may give single targets another. */
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  /** By module name, such as "model.layers.0.self_attn.q_proj". */
  readonly targets: ReadonlyMap<string, LoraTarget>;
}

/**
 * Opens an adapter folder: config and header, no tensor data. Whether the modules exist and fit is the loader's to check.
 *
 * @throws {FormatError} for anything missing, inconsistent or unsupported.
 */
export function openAdapter(dir: string): AdapterSource {
  const file = join(dir, CONFIG);
  const config = readJsonObject(file);
  refuseUnsupported(config, file);
  const settings = {
    rank: positive(config.r, "r", file),
    alpha: positive(config.lora_alpha, "lora_alpha", file, false),
    rsLora: config.use_rslora === true,
  };
  const ranks = parsePatterns(config.rank_pattern, "rank_pattern", file);
  const alphas = parsePatterns(config.alpha_pattern, "alpha_pattern", file);
  const targets = new Map<string, LoraTarget>();
  for (const [module, pair] of openPairs(dir, config.use_dora === true)) {
    checkTargeted(module, config.target_modules, file);
    const rank = valueFor(module, ranks) ?? settings.rank;
    const alpha = valueFor(module, alphas) ?? settings.alpha;
    checkShapes(pair, rank);
    targets.set(module, { ...pair, rank, alpha, scale: alpha / (settings.rsLora ? Math.sqrt(rank) : rank) });
  }
  return { dir, binding: readBinding(dir), ...settings, targets };
}

function readBinding(dir: string): AdapterBinding | null {
  const file = join(dir, BINDING);
  if (!existsSync(file)) return null;
  const { base, replaces } = readJsonObject(file);
  const refuse = (key: string, received: unknown, expected: string): FormatError =>
    new FormatError("use", { file, reason: `bad ${key}`, received: received ?? "none", expected });
  if (typeof base !== "string" || !FINGERPRINT.test(base)) throw refuse("base", base, "64 hexadecimal digits");
  if (typeof replaces !== "boolean") throw refuse("replaces", replaces, "true or false");
  return { base, replaces };
}

/**
 * @param base fingerprint of the model that the adapter is to be used with
 * @throws {FormatError} where it was trained on another one
 */
export function checkBinding({ dir, binding }: Pick<AdapterSource, "dir" | "binding">, base: string): void {
  if (binding === null || binding.base === base) return;
  const reason = "the adapter was trained on another model";
  throw new FormatError("use", { file: join(dir, BINDING), reason, received: binding.base, expected: base });
}

/** Settings that change the arithmetic in a way the runtime does not do. */
function refuseUnsupported(config: JsonObject, file: string): void {
  const refuse = (reason: string, received?: unknown, expected?: unknown): FormatError =>
    new FormatError("use", { file, reason, received, expected });
  if (config.peft_type !== "LORA") throw refuse("unsupported peft_type", config.peft_type ?? "none", "LORA");
  if (config.bias !== undefined && config.bias !== "none")
    throw refuse("trained biases are not supported", config.bias, "none");
  const init = config.init_lora_weights;
  if (typeof init === "string" && !["gaussian", "eva", "orthogonal"].includes(init)) {
    const reason =
      "init_lora_weights changed the base weights this adapter belongs to; let peft convert it to plain LoRA";
    throw refuse(reason, init, "true");
  }
  const unsupported = [
    "fan_in_fan_out",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "modules_to_save",
    "layer_replication",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
  ];
  for (const key of unsupported) {
    if (!isUnset(config[key])) throw refuse(`${key} is not supported`, config[key], "unset");
  }
}

function isUnset(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return Array.isArray(value) ? value.length === 0 : isObject(value) && Object.keys(value).length === 0;
}

function positive(value: unknown, key: string, file: string, integer = true): number {
  const ok = integer ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (typeof value === "number" && ok && value > 0) return value;
  const expected = integer ? "a positive integer" : "a positive number";
  throw new FormatError("use", { file, reason: `bad ${key}`, received: value ?? "none", expected });
}

type LoraTensors = Pick<LoraTarget, "a" | "b" | "magnitude">;

const PARTS = { A: "a", B: "b", magnitude_vector: "magnitude" } as const;

function openPairs(dir: string, dora: boolean): Map<string, LoraTensors> {
  const file = join(dir, WEIGHTS);
  const stat = statSync(file, { throwIfNoEntry: false });
  // Opening a pipe would wait for someone to write to it.
  if (stat && !stat.isFile()) throw new FormatError("open", { file, reason: "not a regular file" });
  if (!stat) {
    const pickled = existsSync(join(dir, "adapter_model.bin"));
    const reason = pickled
      ? "only adapter_model.bin is there, a pickle, and loading a pickle runs code from it; save it again as safetensors"
      : "it does not exist";
    throw new FormatError("open", { file, reason });
  }
  const found = new Map<string, Partial<LoraTensors>>();
  for (const tensor of openSafetensors(file).tensors.values()) {
    const fail = (reason: string, received: unknown, expected?: unknown): FormatError =>
      new FormatError("use", { file, tensor: tensor.name, reason, received, expected });
    const [, module, half, magnitude] = TENSOR_NAME.exec(tensor.name) ?? [];
    if (module === undefined || (magnitude !== undefined && !dora))
      throw fail("not a LoRA matrix", tensor.name, "base_model.model.MODULE.lora_A.weight or lora_B");
    if (!FLOAT_DTYPES.some((dtype) => dtype === tensor.dtype))
      throw fail("wrong dtype", tensor.dtype, FLOAT_DTYPES.join(", "));
    const part = PARTS[(half ?? magnitude) as keyof typeof PARTS];
    const dimensions = part === "magnitude" ? 1 : 2;
    if (tensor.shape.length !== dimensions) {
      throw fail("wrong shape", tensor.shape, dimensions === 1 ? "one dimension" : "two dimensions");
    }
    const tensors = found.get(module) ?? {};
    if (tensors[part] !== undefined) throw fail("the module has it twice", tensors[part]?.name);
    found.set(module, { ...tensors, [part]: tensor });
  }
  if (found.size === 0) throw new FormatError("use", { file, reason: "it holds no tensors" });
  return new Map([...found].map(([module, tensors]) => [module, complete(file, module, tensors, dora)]));
}

function complete(file: string, module: string, { a, b, magnitude }: Partial<LoraTensors>, dora: boolean): LoraTensors {
  const lacks = (name: string): FormatError => new FormatError("use", { file, reason: `${module} has no ${name}` });
  if (a === undefined) throw lacks("lora_A");
  if (b === undefined) throw lacks("lora_B");
  if (dora && !magnitude) throw lacks("lora_magnitude_vector, which use_dora needs");
  return { a, b, magnitude: magnitude ?? null };
}

/** A list of target modules names whole modules or their last parts; a string is a regex or a keyword, which needs the model. */
function checkTargeted(module: string, targets: unknown, file: string): void {
  if (!Array.isArray(targets)) return;
  if (targets.some((target) => module === target || module.endsWith(`.${target}`))) return;
  throw new FormatError("use", {
    file,
    reason: `there are matrices for ${module}, which target_modules does not name`,
  });
}

function checkShapes({ a, b, magnitude }: LoraTensors, rank: number): void {
  const out = b.shape[0]!;
  for (const [tensor, dim, expected, shape] of [
    [a, 0, rank, `[${rank}, in]`],
    [b, 1, rank, `[out, ${rank}]`],
    ...(magnitude === null ? [] : [[magnitude, 0, out, `[${out}]`] as const]),
  ] as const) {
    if (tensor.shape[dim] === expected) continue;
    const reason = tensor === magnitude ? "the shape does not match lora_B" : "the shape does not match the rank";
    throw new FormatError("use", {
      file: tensor.path,
      tensor: tensor.name,
      reason,
      received: tensor.shape,
      expected: shape,
    });
  }
}

function valueFor(module: string, patterns: readonly NamePattern[]): number | undefined {
  return patterns.find(({ regex }) => regex.test(module))?.value;
}
