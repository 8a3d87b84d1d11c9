/** A block of a hundred thousand random weights with calibration data, for tests of the methods. */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE } from "../../../ffi/mod.ts";
import type { DecoderConfig } from "../../models/config.ts";
import { decoderBlock } from "../../models/decoder.ts";
import { FAMILIES } from "../../models/families.ts";
import { inverseFrequencies } from "../../models/rope.ts";
import { type BlockWeights, blockLinears, type Linear, type Norm } from "../../models/weights.ts";
import { TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena } from "../../tensor.ts";
import { dequantizeStored } from "../dequantize.ts";
import { uniformNumbers } from "../linalg/random.ts";
import type { BlockJob, CalibrationStream, MethodEvent, MethodSettings, QuantizedLinear } from "../method.ts";
import { DEFAULTS } from "../settings.ts";

export const TEST_CONFIG: DecoderConfig = {
  family: FAMILIES.get("llama")!,
  hiddenSize: 128,
  intermediateSize: 256,
  layers: 1,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  vocabSize: 320,
  maxPositions: 512,
  rmsNormEps: 1e-5,
  rope: { theta: 10000, scaling: { type: "default" } },
  tiedEmbeddings: true,
  windows: [0],
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  eosTokenIds: [],
};

const SAMPLES = 6;
const LENGTH = 96;

export interface TestJob {
  readonly job: BlockJob;
  readonly events: MethodEvent[];
  /** Mean square difference of the block's output from full precision, over the calibration data. */
  outputError(result: ReadonlyMap<string, QuantizedLinear>): number;
}

/** Roughly normal numbers: sums of four uniform ones. */
export function normals(count: number, deviation: number, seed: number): Float32Array<ArrayBuffer> {
  const next = uniformNumbers(seed);
  return Float32Array.from({ length: count }, () => (next() + next() + next() + next()) * 0.866 * deviation);
}

/**
 * @param shape what differs from TEST_CONFIG
 * @param deadInput makes this element of all hidden states zero
 * @param keep linears left alone, by the end of their names
 */
export function testJob(
  context: Context,
  settings: Partial<MethodSettings>,
  { shape = {} as Partial<DecoderConfig>, deadInput = -1, keep = [] as readonly string[] } = {},
): TestJob {
  const config = { ...TEST_CONFIG, ...shape };
  const block = randomBlock(context, config);
  const states = hiddenStates(config.hiddenSize, deadInput);
  const inputs = stream(context, states);
  const frequencies = place(context, inverseFrequencies(config.rope, config.headDim));
  const run = (weights: BlockWeights): Float32Array[] => forward(context, config, weights, inputs, frequencies);
  const reference = run(block);
  const events: MethodEvent[] = [];
  const job: BlockJob = {
    context,
    config,
    layer: 0,
    block,
    inverseFrequencies: frequencies,
    settings: { ...DEFAULTS, ...settings },
    kept: new Set(blockLinears(block).filter(({ name }) => keep.some((end) => name.endsWith(end)))),
    init: null,
    calibration: { inputs, referenceInputs: inputs, targets: stream(context, reference) },
    report: (event) => {
      events.push(event);
      return Promise.resolve();
    },
  };
  const outputError = (result: ReadonlyMap<string, QuantizedLinear>): number => {
    const outputs = run(replaced(context, block, result));
    let sum = 0;
    for (const [s, output] of outputs.entries()) {
      for (const [i, value] of output.entries()) sum += (value - reference[s]![i]!) ** 2;
    }
    return sum / (outputs.length * outputs[0]!.length);
  };
  return { job, events, outputError };
}

/** What a linear computes with: float32 [out, in]. */
export function effectiveWeights(linear: Linear, { weights, lora }: QuantizedLinear): Float32Array {
  const { outFeatures, inFeatures } = linear.weight;
  const values = dequantizeStored(weights, outFeatures, inFeatures).slice();
  if (lora === null) return values;
  const { a, b, rank, alpha } = lora;
  for (let r = 0; r < outFeatures; r++) {
    for (let i = 0; i < rank; i++) {
      const factor = (alpha / rank) * b[r * rank + i]!;
      for (let c = 0; c < inFeatures; c++)
        values[r * inFeatures + c] = values[r * inFeatures + c]! + factor * a[i * inFeatures + c]!;
    }
  }
  return values;
}

export function denseWeights({ weight }: Linear): Float32Array {
  return weight.data!.buffer.download(new Float32Array(weight.outFeatures * weight.inFeatures), weight.data!.offset);
}

function place(context: Context, values: Float32Array): Ref {
  const buffer: DeviceBuffer = context.alloc(values.byteLength);
  buffer.upload(values);
  return buffer.at(0);
}

function dense(
  context: Context,
  name: string,
  [outFeatures, inFeatures]: readonly [number, number],
  values: Float32Array,
  bias: Ref | null,
): Linear {
  const data = place(context, values);
  const weight = { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
  return { name, weight, bias, loraTarget: -1 };
}

function randomBlock(context: Context, config: DecoderConfig): BlockWeights {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, qkvBias, outputBias, mlpBias, qkNorm } = config;
  let seed = 1;
  const linear = (name: string, out: number, into: number, biased: boolean): Linear => {
    const bias = biased ? place(context, normals(out, 0.5, seed++)) : null;
    return dense(
      context,
      `model.layers.0.${name}`,
      [out, into],
      normals(out * into, 1 / Math.sqrt(into), seed++),
      bias,
    );
  };
  const norm = (size: number): Norm => ({
    weight: place(
      context,
      normals(size, 0.1, seed++).map((x) => x + 1),
    ),
    size,
  });
  return {
    inputNorm: norm(hiddenSize),
    q: linear("self_attn.q_proj", heads * headDim, hiddenSize, qkvBias),
    k: linear("self_attn.k_proj", kvHeads * headDim, hiddenSize, qkvBias),
    v: linear("self_attn.v_proj", kvHeads * headDim, hiddenSize, qkvBias),
    qNorm: qkNorm ? norm(headDim) : null,
    kNorm: qkNorm ? norm(headDim) : null,
    o: linear("self_attn.o_proj", hiddenSize, heads * headDim, outputBias),
    postAttentionNorm: norm(hiddenSize),
    gate: linear("mlp.gate_proj", intermediateSize, hiddenSize, mlpBias),
    up: linear("mlp.up_proj", intermediateSize, hiddenSize, mlpBias),
    down: linear("mlp.down_proj", hiddenSize, intermediateSize, mlpBias),
  };
}

function replaced(context: Context, block: BlockWeights, result: ReadonlyMap<string, QuantizedLinear>): BlockWeights {
  const changed = (linear: Linear): Linear => {
    const quantized = result.get(linear.name);
    if (quantized === undefined) return linear;
    const { outFeatures, inFeatures } = linear.weight;
    return dense(context, linear.name, [outFeatures, inFeatures], effectiveWeights(linear, quantized), linear.bias);
  };
  const [q, k, v, o, gate, up, down] = blockLinears(block).map(changed);
  return { ...block, q, k, v, o, gate, up, down };
}

/** Rows that share most of what they are: a mixture of a dozen directions and some noise, as activations of a model are. */
function hiddenStates(hidden: number, deadInput: number): Float32Array[] {
  const directions = Array.from({ length: 12 }, (_, i) => normals(hidden, 1 / (1 + i / 4), 100 + i));
  return Array.from({ length: SAMPLES }, (_, sample) => {
    const values = normals(LENGTH * hidden, 0.15, 200 + sample);
    const parts = normals(LENGTH * directions.length, 1, 300 + sample);
    for (let t = 0; t < LENGTH; t++) {
      for (const [d, direction] of directions.entries()) {
        const part = parts[t * directions.length + d]!;
        for (let i = 0; i < hidden; i++) values[t * hidden + i] = values[t * hidden + i]! + part * direction[i]!;
      }
      if (deadInput >= 0) values[t * hidden + deadInput] = 0;
    }
    return values;
  });
}

function stream(context: Context, samples: readonly Float32Array[]): CalibrationStream {
  const refs = samples.map((values) => place(context, values));
  return {
    samples: samples.length,
    length: LENGTH,
    hidden: samples[0]!.length / LENGTH,
    read: (index) => refs[index]!,
  };
}

function forward(
  context: Context,
  config: DecoderConfig,
  block: BlockWeights,
  inputs: CalibrationStream,
  frequencies: Ref,
): Float32Array[] {
  using buffer = context.alloc(trainingArenaBytes(config, 1, LENGTH, false));
  const arena = new Arena(buffer);
  using ops = new TrainingOps({
    context,
    config,
    arena,
    sequences: 1,
    length: LENGTH,
    inverseFrequencies: frequencies,
  });
  return Array.from({ length: inputs.samples }, (_, sample) => {
    ops.begin(false);
    const { ref } = decoderBlock(ops, config, block, 0, ops.input(inputs.read(sample)));
    return ref.buffer.download(new Float32Array(LENGTH * config.hiddenSize), ref.offset);
  });
}
