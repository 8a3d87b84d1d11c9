/** What config.json says about packed weights, for a whole model and for one module of it. */
import { FormatError } from "./failure.ts";
import { BITS, type Bits, GROUP_SIZES, type GroupSize } from "./gptq.ts";
import { isObject, type JsonObject, kindOf } from "./json.ts";
import { parseRegex } from "./name_pattern.ts";

/** How one affine matrix is stored. See docs/FORMAT.md. */
export interface AffineScheme {
  readonly kind: "affine";
  readonly bits: Bits;
  readonly group: GroupSize;
  readonly zero: "integer" | "float";
  /** Whether stored integer zeros are one less than the real ones ("gptq") or not ("gptq_v2"). */
  readonly format: "gptq" | "gptq_v2";
}

/** How one matrix of table entries is stored: w = scale * table[q]. */
export interface LutScheme {
  readonly kind: "lut";
  readonly bits: LutBits;
  readonly group: GroupSize;
  /** Whether the scales are stored in 8 bits (double_scales.ts). */
  readonly doubleQuantization: boolean;
}

export type Scheme = AffineScheme | LutScheme;

export type LutBits = 2 | 3 | 4;
const LUT_BITS: readonly LutBits[] = [2, 3, 4];

export interface Quantization {
  readonly method: "gptq" | "apiq";
  readonly base: Scheme;
  /** Overrides of `method` "apiq", by module name; "*" stands for one part of a dotted name. */
  readonly modules: ReadonlyMap<string, Scheme>;
  /** Overrides of `method` "gptq": GPTQModel's `dynamic`, whose expressions match where a name begins. */
  readonly dynamic: readonly { readonly regex: RegExp; readonly scheme: Scheme }[];
}

/**
 * Reads the `quantization_config` of a config.json.
 *
 * @throws {FormatError} for a method or setting that cannot be run, naming it.
 */
export function parseQuantization(config: JsonObject, file: string): Quantization {
  switch (config.quant_method) {
    case "gptq":
      return parseGptq(config, file);
    case "apiq":
      return parseApiq(config, file);
    default:
      throw refusal(file, "an unknown quant_method", config.quant_method ?? "none", '"gptq" or "apiq"');
  }
}

/** The scheme of one module: its own entry, else that of the first pattern that fits, else the model's. */
export function schemeOf(quantization: Quantization, module: string): Scheme {
  const exact = quantization.modules.get(module);
  if (exact !== undefined) return exact;
  const parts = module.split(".");
  for (const [pattern, scheme] of quantization.modules) {
    const wanted = pattern.split(".");
    if (wanted.length === parts.length && wanted.every((part, i) => part === "*" || part === parts[i])) return scheme;
  }
  return quantization.dynamic.find(({ regex }) => regex.test(module))?.scheme ?? quantization.base;
}

function parseGptq(config: JsonObject, file: string): Quantization {
  if (config.desc_act === true) throw actOrder(file, "desc_act is true");
  const format = config.checkpoint_format ?? "gptq";
  if (format !== "gptq" && format !== "gptq_v2") {
    throw refusal(file, "an unknown checkpoint_format", format, '"gptq" or "gptq_v2"');
  }
  const base = {
    kind: "affine",
    bits: parseBits(config.bits, BITS, file),
    group: parseGroup(config.group_size, file),
    zero: "integer",
    format,
  } as const;
  return { method: "gptq", base, modules: new Map(), dynamic: parseDynamic(config, base, file) };
}

/** Entries that begin with "-:" name dense modules, which a reader sees from their tensors; "+:" may stand before the others. */
function parseDynamic(config: JsonObject, base: AffineScheme, file: string): Quantization["dynamic"] {
  const entries = config.dynamic ?? {};
  if (!isObject(entries)) throw refusal(file, "a dynamic that is no object", kindOf(entries), "object");
  return Object.entries(entries).flatMap(([key, settings]) => {
    if (key.startsWith("-:")) return [];
    if (!isObject(settings))
      throw refusal(file, `settings of ${key} in dynamic that are no object`, kindOf(settings), "object");
    if (settings.desc_act === true) throw actOrder(file, `desc_act of ${key} in dynamic is true`);
    const regex = parseRegex(key.replace(/^\+:/, ""), (pattern) => `^(${pattern})`, "dynamic", file);
    const bits = parseBits(settings.bits ?? base.bits, BITS, file);
    return [{ regex, scheme: { ...base, bits, group: parseGroup(settings.group_size ?? base.group, file) } }];
  });
}

function parseApiq(config: JsonObject, file: string): Quantization {
  if (config.version !== 1) throw refusal(file, "an unknown version of the apiq format", config.version ?? "none", 1);
  const base = parseScheme(config, file);
  const modules = new Map<string, Scheme>();
  const overrides = config.modules ?? {};
  if (!isObject(overrides)) throw refusal(file, "modules that are no object", kindOf(overrides), "object");
  for (const [module, settings] of Object.entries(overrides)) {
    if (!isObject(settings))
      throw refusal(file, `settings of module ${module} that are no object`, kindOf(settings), "object");
    const { modules: _, ...inherited } = config;
    modules.set(module, parseScheme({ ...inherited, ...settings }, file));
  }
  return { method: "apiq", base, modules, dynamic: [] };
}

function parseScheme(config: JsonObject, file: string): Scheme {
  switch (config.family ?? "affine") {
    case "affine":
      return parseAffine(config, file);
    case "lut":
      return parseLut(config, file);
    default:
      throw refusal(file, "an unknown family", config.family, '"affine" or "lut"');
  }
}

function parseAffine(config: JsonObject, file: string): AffineScheme {
  const zero = config.zero;
  if (zero !== "integer" && zero !== "float")
    throw refusal(file, "an unknown kind of zero", zero ?? "none", '"integer" or "float"');
  const bits = parseBits(config.bits, BITS, file);
  return { kind: "affine", bits, group: parseGroup(config.group_size, file), zero, format: "gptq_v2" };
}

function parseLut(config: JsonObject, file: string): LutScheme {
  const double = config.double_quantization ?? false;
  if (typeof double !== "boolean") throw refusal(file, "an unknown double_quantization", double, "true or false");
  const bits = parseBits(config.bits, LUT_BITS, file);
  return { kind: "lut", bits, group: parseGroup(config.group_size, file), doubleQuantization: double };
}

function parseBits<B extends Bits>(value: unknown, allowed: readonly B[], file: string): B {
  const bits = allowed.find((bits) => bits === value);
  if (bits === undefined) throw refusal(file, "unsupported bits", value ?? "none", allowed.join(", "));
  return bits;
}

function parseGroup(value: unknown, file: string): GroupSize {
  const group = GROUP_SIZES.find((group) => group === value);
  if (group !== undefined) return group;
  const reason = value === -1 ? "one group for a whole row, which is not supported" : "an unsupported group_size";
  throw refusal(file, reason, value ?? "none", GROUP_SIZES.join(", "));
}

/** Act-order checkpoints shuffle the columns: their groups are no runs of `in` that a kernel could stream. */
export function actOrder(file: string, evidence: string, tensor?: string): FormatError {
  const reason = `act-order is not supported (${evidence}); quantize again with desc_act false`;
  return new FormatError("use", { file, tensor, reason });
}

function refusal(file: string, reason: string, received: unknown, expected: unknown): FormatError {
  return new FormatError("use", { file, reason: `quantization_config has ${reason}`, received, expected });
}
