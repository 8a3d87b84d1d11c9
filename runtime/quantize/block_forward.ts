/** Blocks in float32, forward only: how the calibration streams advance, through the same block definition as everything else. */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderBlock } from "../models/decoder.ts";
import type { BlockWeights, Linear } from "../models/weights.ts";
import { matmul } from "../ops/matmul.ts";
import { TrainingOps, trainingArenaBytes } from "../ops/training.ts";
import { Arena } from "../tensor.ts";
import { readDense } from "./dense.ts";
import { dequantizeStored } from "./dequantize.ts";
import { roundToHalf } from "./lut.ts";
import type { LoraMatrices, QuantizedLinear } from "./method.ts";

/** Runs samples of one length through blocks, one sample at a time. */
export class BlockForward implements Disposable {
  readonly #config: DecoderConfig;
  readonly #buffer: DeviceBuffer;
  readonly #ops: TrainingOps;

  constructor(context: Context, config: DecoderConfig, length: number, inverseFrequencies: Ref) {
    this.#config = config;
    this.#buffer = context.alloc(trainingArenaBytes(config, 1, length, false));
    const arena = new Arena(this.#buffer);
    this.#ops = new TrainingOps({ context, config, arena, sequences: 1, length, inverseFrequencies });
  }

  /** @returns float32 [length, hidden], valid until the next call */
  run(block: BlockWeights, layer: number, input: Ref): Ref {
    this.#ops.begin(false);
    return decoderBlock(this.#ops, this.#config, block, layer, this.#ops.input(input)).ref;
  }

  [Symbol.dispose](): void {
    this.#ops[Symbol.dispose]();
    this.#buffer[Symbol.dispose]();
  }
}

/** What a reader of the stored files will compute with: scales and LoRA matrices rounded to float16. */
export function asStored({ weights, lora }: QuantizedLinear): QuantizedLinear {
  return {
    weights: roundWeights(weights),
    lora: lora && { ...lora, a: roundToHalf(lora.a), b: roundToHalf(lora.b) },
  };
}

function roundWeights(weights: QuantizedLinear["weights"]): QuantizedLinear["weights"] {
  switch (weights.family) {
    case "affine": {
      const zeros = weights.zero === "float" ? roundToHalf(weights.zeros) : weights.zeros;
      return { ...weights, scales: roundToHalf(weights.scales), zeros };
    }
    case "lut":
      return { ...weights, scales: roundToHalf(weights.scales) };
    case "dense":
      return weights;
  }
}

/** Replaces the dense weights of `linear` on the device by what was stored for it, its LoRA multiplied out and added. */
export function applyStored(context: Context, linear: Linear, { weights, lora }: QuantizedLinear): void {
  const { data, outFeatures, inFeatures } = linear.weight;
  const values = dequantizeStored(weights, outFeatures, inFeatures);
  data!.buffer.upload(values, data!.offset);
  if (lora === null) return;
  addLora(context, linear, lora);
  if (lora.magnitude !== null) scaleRows(context, linear, lora.magnitude);
}

/** w += alpha / rank * b a */
function addLora(context: Context, { weight }: Linear, { a, b, rank, alpha }: LoraMatrices): void {
  using deviceA = context.alloc(a.byteLength);
  using deviceB = context.alloc(b.byteLength);
  deviceA.upload(a);
  deviceB.upload(b);
  const { data, outFeatures: m, inFeatures: n } = weight;
  const scaled = { k: rank, alpha: alpha / rank, add: true };
  matmul(context, { a: deviceB.at(0), b: deviceA.at(0), c: data!, m, n, ...scaled });
  context.synchronize();
}

/** DoRA: every row gets the norm that `magnitude` says (arXiv 2402.09353). */
function scaleRows(context: Context, linear: Linear, magnitude: Float32Array): void {
  const { data, outFeatures, inFeatures } = linear.weight;
  const values = readDense(linear);
  for (let row = 0; row < outFeatures; row++) {
    const cells = values.subarray(row * inFeatures, (row + 1) * inFeatures);
    let squares = 0;
    for (const cell of cells) squares += cell * cell;
    const factor = squares === 0 ? 1 : magnitude[row]! / Math.sqrt(squares);
    for (let i = 0; i < inFeatures; i++) cells[i] = cells[i]! * factor;
  }
  context.synchronize();
  data!.buffer.upload(values, data!.offset);
}
