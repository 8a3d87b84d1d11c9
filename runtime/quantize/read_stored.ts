/** From a folder's tensors back to what a method made: for finished blocks of an interrupted run, and for --init-from. */
import type { AdapterSource } from "../formats/adapter.ts";
import type { Checkpoint, LinearSource } from "../formats/checkpoint.ts";
import { decodeScales } from "../formats/double_scales.ts";
import { halvesToFloats } from "../formats/floats.ts";
import { unpackRows, unpackZeros } from "../formats/gptq.ts";
import { readBytes, readInts, readTensor } from "../formats/read.ts";
import type { StoredTensor } from "../formats/safetensors.ts";
import { roundToHalf } from "./lut.ts";
import type { LoraMatrices, QuantizedLinear, StoredWeights } from "./method.ts";

/** Reads the matrix of one module. */
export function readStored(source: LinearSource): StoredWeights {
  const { outFeatures, inFeatures } = source;
  if (source.kind === "dense") return { family: "dense", values: readTensor(source.weight) };
  const groups = inFeatures / source.group;
  const q = unpackRows(readInts(source.qweight), outFeatures, inFeatures, source.bits);
  if (source.kind === "affine") {
    const { bits, group, zero } = source;
    const zeros =
      zero === "float"
        ? readHalves(source.zeros, groups, outFeatures)
        : transpose(unpackZeros(readInts(source.zeros), groups, outFeatures, bits, source.format), groups, outFeatures);
    return { family: "affine", bits, group, q, scales: readHalves(source.scales, groups, outFeatures), zero, zeros };
  }
  const { bits, group, table, scales } = source;
  if (!("codes" in scales)) {
    return { family: "lut", bits, group, q, table, scales: readHalves(scales, groups, outFeatures), double: null };
  }
  const double = {
    codes: readBytes(scales.codes),
    absmax: readTensor(scales.absmax),
    offset: readTensor(scales.offset)[0]!,
  };
  return { family: "lut", bits, group, q, table, scales: roundToHalf(decodeScales(double)), double };
}

/** The result of another run by module name, for the modules of one block. Modules that it left dense are not in it. */
export function readQuantized(
  checkpoint: Checkpoint,
  modules: readonly { readonly module: string; readonly outFeatures: number; readonly inFeatures: number }[],
): Map<string, QuantizedLinear> {
  const found = new Map<string, QuantizedLinear>();
  for (const { module, outFeatures, inFeatures } of modules) {
    const source = checkpoint.linear(module, outFeatures, inFeatures);
    if (source.kind === "dense") continue;
    found.set(module, { weights: readStored(source), lora: readLora(checkpoint.initAdapter, module) });
  }
  return found;
}

function readLora(adapter: AdapterSource | undefined, module: string): LoraMatrices | null {
  const target = adapter?.targets.get(module);
  if (target === undefined) return null;
  const { a, b, rank, scale } = target;
  const magnitude = target.magnitude ? readTensor(target.magnitude) : null;
  return { a: readTensor(a), b: readTensor(b), rank, alpha: scale * rank, magnitude };
}

/** F16 [groups, out] -> [out, groups] */
function readHalves(tensor: StoredTensor, groups: number, outFeatures: number): Float32Array {
  return transpose(halvesToFloats(new Uint16Array(readBytes(tensor).buffer)), groups, outFeatures);
}

/** [rows, cols] -> [cols, rows] */
function transpose(values: ArrayLike<number>, rows: number, cols: number): Float32Array {
  const target = new Float32Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) target[col * rows + row] = values[row * cols + col]!;
  }
  return target;
}
