/** A model folder as Hugging Face lays it out: config.json, safetensors in one file or several, packed or not. */
import { existsSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type AdapterSource, openAdapter } from "./adapter.ts";
import { readFinite, SCALE_BLOCK, type StoredDoubleScales } from "./double_scales.ts";
import { FLOAT_DTYPES, type StoredDtype } from "./dtype.ts";
import { FormatError } from "./failure.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { type Bits, type GroupSize, wordsFor } from "./gptq.ts";
import { isObject, type JsonObject, kindOf, readJsonObject } from "./json.ts";
import {
  type AffineScheme,
  actOrder,
  type LutBits,
  type LutScheme,
  parseQuantization,
  type Quantization,
  schemeOf,
} from "./quantization.ts";
import { readInts } from "./read.ts";
import { openSafetensors, type StoredTensor } from "./safetensors.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
/** Folder of the calibrated LoRA inside a model's folder. */
export const INIT_ADAPTER = "apiq_init";

/** Where the matrix [outFeatures, inFeatures] of a linear layer or an embedding table lies. */
export type LinearSource = DenseSource | AffineSource | LutSource;

export interface DenseSource {
  readonly kind: "dense";
  /** [out, in], F32, F16 or BF16 */
  readonly weight: StoredTensor;
  /** [out], F32, F16 or BF16 */
  readonly bias?: StoredTensor;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

export interface AffineSource {
  readonly kind: "affine";
  readonly bits: Bits;
  readonly group: GroupSize;
  readonly zero: "integer" | "float";
  /** How integer zeros are stored: "gptq" holds z - 1, "gptq_v2" z. */
  readonly format: "gptq" | "gptq_v2";
  /** I32 [in*bits/32, out] */
  readonly qweight: StoredTensor;
  /** I32 [in/group, ceil(out*bits/32)] for integer zeros, F16 [in/group, out] for float ones */
  readonly zeros: StoredTensor;
  /** F16 [in/group, out] */
  readonly scales: StoredTensor;
  readonly bias?: StoredTensor;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

export interface LutSource {
  readonly kind: "lut";
  readonly bits: LutBits;
  readonly group: GroupSize;
  /** float32 [2^bits], finite: w = scale * table[q] */
  readonly table: Float32Array;
  /** I32 [in*bits/32, out] */
  readonly qweight: StoredTensor;
  /** F32 [2^bits], what `table` was read from */
  readonly lut: StoredTensor;
  /** F16 [in/group, out], or in 8 bits */
  readonly scales: StoredTensor | StoredDoubleScales;
  readonly bias?: StoredTensor;
  readonly outFeatures: number;
  readonly inFeatures: number;
}

export interface TensorExpectation {
  dtype?: StoredDtype | readonly StoredDtype[];
  shape?: readonly number[];
}

/**
 * Opens a model folder: reads config.json and every safetensors header, no tensor data.
 *
 * @throws {FormatError} for anything missing, inconsistent or unsupported.
 */
export function openCheckpoint(dir: string): Checkpoint {
  if (existsSync(dir) && !statSync(dir).isDirectory()) {
    const reason = dir.endsWith(".gguf") ? "it is a GGUF file" : "it is a file";
    throw new FormatError("open", { file: dir, reason, expected: "a folder with config.json and safetensors" });
  }
  const configFile = join(dir, "config.json");
  const config = readJsonObject(configFile);
  const tensors = openTensors(dir);
  const initDir = join(dir, INIT_ADAPTER);
  return new Checkpoint({
    dir,
    config,
    quantization: quantizationOf(dir, config),
    tensors,
    fingerprint: fingerprintOf(config, tensors, configFile),
    initAdapter: existsSync(initDir) ? openAdapter(initDir) : undefined,
  });
}

interface CheckpointParts {
  dir: string;
  config: JsonObject;
  quantization: Quantization | undefined;
  tensors: ReadonlyMap<string, StoredTensor>;
  fingerprint: string;
  initAdapter: AdapterSource | undefined;
}

export class Checkpoint {
  readonly dir: string;
  readonly config: JsonObject;
  /** undefined: nothing is packed. */
  readonly quantization: Quantization | undefined;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** SHA-256 in hex; see docs/FORMAT.md. */
  readonly fingerprint: string;
  /** The calibrated LoRA, part of the model. */
  readonly initAdapter: AdapterSource | undefined;

  constructor(parts: CheckpointParts) {
    this.dir = parts.dir;
    this.config = parts.config;
    this.quantization = parts.quantization;
    this.tensors = parts.tensors;
    this.fingerprint = parts.fingerprint;
    this.initAdapter = parts.initAdapter;
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** @throws {FormatError} when it is missing or not of the expected dtype and shape. */
  tensor(name: string, expectation: TensorExpectation = {}): StoredTensor {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw new FormatError("find", { file: this.dir, tensor: name, reason: "it is missing" });
    const fail = (reason: string, received: unknown, expected: unknown): FormatError =>
      new FormatError("use", { file: tensor.path, tensor: name, reason, received, expected });
    const { dtype, shape } = expectation;
    const dtypes = typeof dtype === "string" ? [dtype] : dtype;
    if (dtypes !== undefined && !dtypes.includes(tensor.dtype))
      throw fail("wrong dtype", tensor.dtype, dtypes.join(", "));
    if (shape !== undefined && !sameShape(tensor.shape, shape)) throw fail("wrong shape", tensor.shape, shape);
    return tensor;
  }

  /** The matrix [outFeatures, inFeatures] and the bias of a module such as "model.layers.0.self_attn.q_proj". */
  linear(module: string, outFeatures: number, inFeatures: number): LinearSource {
    const source = this.#matrix(module, outFeatures, inFeatures);
    const bias = `${module}.bias`;
    return this.has(bias)
      ? { ...source, bias: this.tensor(bias, { dtype: FLOAT_DTYPES, shape: [outFeatures] }) }
      : source;
  }

  /** The table [entries, width] of a module such as "model.embed_tokens": dense, or packed along `width`. */
  embedding(module: string, entries: number, width: number): LinearSource {
    return this.#matrix(module, entries, width);
  }

  #matrix(module: string, outFeatures: number, inFeatures: number): LinearSource {
    const packed = this.has(`${module}.qweight`);
    if (packed && this.has(`${module}.weight`)) {
      const reason = "the module has both .weight and .qweight";
      throw new FormatError("use", { file: this.dir, tensor: `${module}.qweight`, reason });
    }
    if (!packed) {
      const weight = this.tensor(`${module}.weight`, { dtype: FLOAT_DTYPES, shape: [outFeatures, inFeatures] });
      return { kind: "dense", weight, outFeatures, inFeatures };
    }
    if (this.quantization === undefined) {
      const reason = "packed weights need a quantization_config in config.json";
      throw new FormatError("use", { file: this.dir, tensor: `${module}.qweight`, reason });
    }
    const scheme = schemeOf(this.quantization, module);
    this.#checkGroup(module, scheme.group, inFeatures);
    return scheme.kind === "affine"
      ? this.#affine(module, scheme, outFeatures, inFeatures)
      : this.#lut(module, scheme, outFeatures, inFeatures);
  }

  #checkGroup(module: string, group: number, inFeatures: number): void {
    if (inFeatures % group !== 0) {
      const reason = "the group size does not divide the input features";
      throw new FormatError("use", {
        file: this.dir,
        tensor: `${module}.qweight`,
        reason,
        received: group,
        expected: `a divisor of ${inFeatures}`,
      });
    }
  }

  #affine(module: string, scheme: AffineScheme, outFeatures: number, inFeatures: number): AffineSource {
    const { bits, group, zero } = scheme;
    const groups = inFeatures / group;
    const qweight = this.tensor(`${module}.qweight`, {
      dtype: "I32",
      shape: [wordsFor(inFeatures, bits), outFeatures],
    });
    const scales = this.tensor(`${module}.scales`, { dtype: "F16", shape: [groups, outFeatures] });
    const zeros =
      zero === "integer"
        ? this.tensor(`${module}.qzeros`, { dtype: "I32", shape: [groups, wordsFor(outFeatures, bits)] })
        : this.tensor(`${module}.mins`, { dtype: "F16", shape: [groups, outFeatures] });
    this.#checkOrder(`${module}.g_idx`, inFeatures, group);
    return { ...scheme, qweight, zeros, scales, outFeatures, inFeatures };
  }

  #lut(module: string, scheme: LutScheme, outFeatures: number, inFeatures: number): LutSource {
    const { bits, group, doubleQuantization } = scheme;
    const groups = inFeatures / group;
    const qweight = this.tensor(`${module}.qweight`, {
      dtype: "I32",
      shape: [wordsFor(inFeatures, bits), outFeatures],
    });
    const lut = this.tensor(`${module}.lut`, { dtype: "F32", shape: [2 ** bits] });
    const blocks = Math.ceil((outFeatures * groups) / SCALE_BLOCK);
    const scales = doubleQuantization
      ? {
          codes: this.tensor(`${module}.scale_codes`, { dtype: "U8", shape: [outFeatures, groups] }),
          absmax: this.tensor(`${module}.scale_absmax`, { dtype: "F32", shape: [blocks] }),
          offset: this.tensor(`${module}.scale_offset`, { dtype: "F32", shape: [1] }),
        }
      : this.tensor(`${module}.scales`, { dtype: "F16", shape: [groups, outFeatures] });
    return { kind: "lut", bits, group, table: readFinite(lut), qweight, lut, scales, outFeatures, inFeatures };
  }

  /** A g_idx, where there is one, must say that input i belongs to group i / groupSize. */
  #checkOrder(name: string, inFeatures: number, group: number): void {
    if (!this.has(name)) return;
    const tensor = this.tensor(name, { dtype: "I32", shape: [inFeatures] });
    const index = readInts(tensor);
    const wrong = index.findIndex((value, i) => value !== Math.floor(i / group));
    if (wrong >= 0) throw actOrder(tensor.path, `input ${wrong} is in group ${index[wrong]}`, name);
  }
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** Older AutoGPTQ keeps the settings in a file of their own. */
function quantizationOf(dir: string, config: JsonObject): Quantization | undefined {
  const inside = config.quantization_config;
  if (inside !== undefined && inside !== null) {
    const file = join(dir, "config.json");
    if (!isObject(inside)) {
      const reason = "quantization_config is not an object";
      throw new FormatError("read", { file, reason, received: kindOf(inside), expected: "object" });
    }
    return parseQuantization(inside, file);
  }
  const beside = join(dir, "quantize_config.json");
  return existsSync(beside)
    ? parseQuantization({ quant_method: "gptq", ...readJsonObject(beside) }, beside)
    : undefined;
}

function openTensors(dir: string): ReadonlyMap<string, StoredTensor> {
  const single = join(dir, SINGLE);
  if (existsSync(single)) return openSafetensors(single).tensors;
  const index = join(dir, INDEX);
  if (existsSync(index)) return openIndexed(dir, index);
  const reason = `neither ${SINGLE} nor ${INDEX} is there`;
  throw new FormatError("open", { file: dir, reason });
}

function openIndexed(dir: string, index: string): ReadonlyMap<string, StoredTensor> {
  const weightMap = readJsonObject(index).weight_map;
  if (!isObject(weightMap)) {
    throw new FormatError("read", {
      file: index,
      reason: "no weight_map",
      received: kindOf(weightMap),
      expected: "object",
    });
  }
  const shards = new Map<string, ReadonlyMap<string, StoredTensor>>();
  const tensors = new Map<string, StoredTensor>();
  for (const [name, shard] of Object.entries(weightMap)) {
    const fail = (reason: string, received: unknown): FormatError =>
      new FormatError("find", { file: index, tensor: name, reason, received });
    // A shard is a file beside the index, never a path that leads elsewhere.
    if (typeof shard !== "string" || shard !== basename(shard) || !shard.endsWith(".safetensors")) {
      throw fail("the shard is not the name of a .safetensors file in this folder", shard);
    }
    if (!shards.has(shard)) {
      if (!existsSync(join(dir, shard))) throw fail("the shard does not exist", shard);
      shards.set(shard, openSafetensors(join(dir, shard)).tensors);
    }
    const tensor = shards.get(shard)?.get(name);
    if (tensor === undefined) throw fail("the shard does not hold it", shard);
    tensors.set(name, tensor);
  }
  return tensors;
}

/** The tensors that a matrix is stored in, without its bias. */
export function weightTensors(source: LinearSource): StoredTensor[] {
  switch (source.kind) {
    case "dense":
      return [source.weight];
    case "affine":
      return [source.qweight, source.zeros, source.scales];
    case "lut":
      return [
        source.qweight,
        source.lut,
        ...("codes" in source.scales ? Object.values(source.scales) : [source.scales]),
      ];
  }
}
