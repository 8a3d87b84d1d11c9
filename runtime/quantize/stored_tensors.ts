/** From what a method makes of a matrix to the tensors of a model's folder, as docs/FORMAT.md defines them. */
import { SCALE_BLOCK } from "../formats/double_scales.ts";
import { floatsToHalves } from "../formats/floats.ts";
import { packRows, packZeros, wordsFor } from "../formats/gptq.ts";
import type { JsonObject } from "../formats/json.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";
import type { AffineWeights, LutWeights, StoredWeights } from "./method.ts";

/** How one matrix is stored: what the model's config.json says about it. Plain JSON, so that it can be kept between runs. */
export type StorageSettings =
  | Pick<AffineWeights, "family" | "bits" | "group" | "zero">
  | (Pick<LutWeights, "family" | "bits" | "group"> & { readonly doubleQuantization: boolean })
  | { readonly family: "dense" };

export function storageSettings(weights: StoredWeights): StorageSettings {
  switch (weights.family) {
    case "affine":
      return { family: "affine", bits: weights.bits, group: weights.group, zero: weights.zero };
    case "lut":
      return {
        family: "lut",
        bits: weights.bits,
        group: weights.group,
        doubleQuantization: weights.double !== null,
      };
    case "dense":
      return { family: "dense" };
  }
}

/**
 * The tensors of module `name`, a matrix [out, in]. Their data is packed when it is written.
 * @param bias float32 [out], stored in float16 where that is exact
 */
export function storedTensors(
  name: string,
  weights: StoredWeights,
  shape: readonly [number, number],
  bias: Float32Array | null = null,
): TensorToWrite[] {
  const tensors = matrixTensors(name, weights, shape);
  return bias === null ? tensors : [...tensors, biasTensor(`${name}.bias`, bias)];
}

function matrixTensors(name: string, weights: StoredWeights, shape: readonly [number, number]): TensorToWrite[] {
  if (weights.family === "dense") {
    return [{ name: `${name}.weight`, dtype: "F16", shape, data: () => [bytesOf(floatsToHalves(weights.values))] }];
  }
  const [outFeatures, inFeatures] = shape;
  const { q, bits } = weights;
  const qweight: TensorToWrite = {
    name: `${name}.qweight`,
    dtype: "I32",
    shape: [wordsFor(inFeatures, bits), outFeatures],
    data: () => [bytesOf(packRows(q, outFeatures, inFeatures, bits))],
  };
  return [qweight, ...(weights.family === "affine" ? affineRest(name, weights, shape) : lutRest(name, weights, shape))];
}

/** Scales and zeros; g_idx, which is always i / group, for the readers of GPTQ's layout that insist on it. */
function affineRest(name: string, weights: AffineWeights, shape: readonly [number, number]): TensorToWrite[] {
  const [outFeatures, inFeatures] = shape;
  const { bits, group } = weights;
  const groups = inFeatures / group;
  const scales = groupHalves(`${name}.scales`, weights.scales, outFeatures, groups);
  if (weights.zero === "float") return [scales, groupHalves(`${name}.mins`, weights.zeros, outFeatures, groups)];
  const zeros: TensorToWrite = {
    name: `${name}.qzeros`,
    dtype: "I32",
    shape: [groups, wordsFor(outFeatures, bits)],
    data: () => [bytesOf(packZeros(transpose(weights.zeros, outFeatures, groups), groups, outFeatures, bits))],
  };
  const order: TensorToWrite = {
    name: `${name}.g_idx`,
    dtype: "I32",
    shape: [inFeatures],
    data: () => [bytesOf(Int32Array.from({ length: inFeatures }, (_, i) => Math.floor(i / group)))],
  };
  return [scales, zeros, order];
}

function lutRest(name: string, weights: LutWeights, shape: readonly [number, number]): TensorToWrite[] {
  const [outFeatures, inFeatures] = shape;
  const { double, table } = weights;
  const groups = inFeatures / weights.group;
  const lut: TensorToWrite = { name: `${name}.lut`, dtype: "F32", shape: [table.length], data: bytesOf(table) };
  if (double === null) return [lut, groupHalves(`${name}.scales`, weights.scales, outFeatures, groups)];
  const blocks = Math.ceil((outFeatures * groups) / SCALE_BLOCK);
  return [
    lut,
    { name: `${name}.scale_codes`, dtype: "U8", shape: [outFeatures, groups], data: double.codes },
    { name: `${name}.scale_absmax`, dtype: "F32", shape: [blocks], data: bytesOf(double.absmax) },
    { name: `${name}.scale_offset`, dtype: "F32", shape: [1], data: bytesOf(Float32Array.of(double.offset)) },
  ];
}

function biasTensor(name: string, bias: Float32Array): TensorToWrite {
  const halves = floatsToHalves(bias);
  const exact = new Float16Array(halves.buffer).every((value, i) => value === bias[i]);
  return { name, dtype: exact ? "F16" : "F32", shape: [bias.length], data: bytesOf(exact ? halves : bias) };
}

/** [out, groups] -> F16 [groups, out] */
function groupHalves(name: string, values: Float32Array, outFeatures: number, groups: number): TensorToWrite {
  const data = () => [bytesOf(floatsToHalves(transpose(values, outFeatures, groups)))];
  return { name, dtype: "F16", shape: [groups, outFeatures], data };
}

function transpose(values: Float32Array, rows: number, cols: number): Float32Array<ArrayBuffer> {
  const target = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) target[col * rows + row] = values[row * cols + col]!;
  }
  return target;
}

function bytesOf(view: Int32Array | Uint16Array | Float32Array): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * The quantization_config of a model with these modules, or null where none is packed: "gptq" where GPTQ's layout can say it (the
 * blocks' linears only, integer zeros), else "apiq"; with the most frequent setting and the modules that differ from it.
 */
export function quantizationConfig(modules: ReadonlyMap<string, StorageSettings>): JsonObject | null {
  const packed = [...modules].filter(([, settings]) => settings.family !== "dense");
  const counts = new Map<string, number>();
  const texts = new Map(packed.map(([module, settings]) => [module, JSON.stringify(entryOf(settings))]));
  for (const text of texts.values()) counts.set(text, (counts.get(text) ?? 0) + 1);
  const [most] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? [];
  if (most === undefined) return null;
  const isGptq = packed.every(
    ([module, settings]) =>
      module.startsWith("model.layers.") && settings.family === "affine" && settings.zero === "integer",
  );
  if (isGptq) return gptqConfig(JSON.parse(most) as AffineEntry, modules);
  const others = [...texts].filter(([, text]) => text !== most);
  const overrides = others.map(([module, text]) => [module, JSON.parse(text)]);
  return { quant_method: "apiq", version: 1, ...JSON.parse(most), modules: Object.fromEntries(overrides) };
}

function entryOf(settings: StorageSettings): JsonObject {
  switch (settings.family) {
    case "affine":
      return { family: "affine", bits: settings.bits, group_size: settings.group, zero: settings.zero };
    case "lut": {
      const { bits, group, doubleQuantization } = settings;
      return { family: "lut", bits, group_size: group, double_quantization: doubleQuantization };
    }
    case "dense":
      return {};
  }
}

/** Of `entryOf`. */
interface AffineEntry {
  readonly bits: number;
  readonly group_size: number;
}

/** `dynamic` is GPTQModel's and vLLM's: which linears are dense, and which have bits or groups of their own. */
function gptqConfig(most: AffineEntry, modules: ReadonlyMap<string, StorageSettings>): JsonObject {
  const others = [...modules].flatMap(([module, settings]) => {
    if (!module.startsWith("model.layers.")) return [];
    const name = `^${module.replaceAll(".", "\\.")}$`;
    if (settings.family === "dense") return [[`-:${name}`, {}]];
    const { bits, group: group_size } = settings;
    return bits === most.bits && group_size === most.group_size ? [] : [[`+:${name}`, { bits, group_size }]];
  });
  return {
    quant_method: "gptq",
    checkpoint_format: "gptq_v2",
    bits: most.bits,
    group_size: most.group_size,
    desc_act: false,
    sym: false,
    lm_head: false,
    ...(others.length > 0 && { dynamic: Object.fromEntries(others) }),
  };
}
