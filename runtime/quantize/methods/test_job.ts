/** A block of random weights, a hundred thousand unless told otherwise, with calibration data, for tests of the methods. */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE } from "../../../ffi/mod.ts";
import type { DecoderConfig } from "../../models/config.ts";
import { decoderBlock } from "../../models/decoder.ts";
import { FAMILIES } from "../../models/families.ts";
import { inverseFrequencies } from "../../models/rope.ts";
import { type BlockWeights, blockLinears, type Linear, type Norm } from "../../models/weights.ts";
import { type TrainableLinear, TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena } from "../../tensor.ts";
import { dequantizeStored } from "../dequantize.ts";
import { FrozenLinears } from "../frozen.ts";
import type { BlockJob, CalibrationStream, MethodEvent, MethodSettings, QuantizedLinear } from "../method.ts";
import { uniformNumbers } from "../random.ts";
import { DEFAULTS } from "../settings.ts";
import { openStream, type WritableStream } from "../streams.ts";

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

type TrainableLinears = ReadonlyMap<Linear, TrainableLinear>;

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

interface TestJobOptions {
  /** What differs from TEST_CONFIG. */
  readonly shape?: Partial<DecoderConfig>;
  readonly samples?: number;
  /** Tokens of a sample. */
  readonly length?: number;
  /** Makes this element of all hidden states zero. */
  readonly deadInput?: number;
  /** How far the block's input is from that of full precision. */
  readonly noise?: number;
  /** Linears left alone, by the end of their names. */
  readonly keep?: readonly string[];
}

export function testJob(
  context: Context,
  settings: Partial<MethodSettings>,
  { shape = {}, samples = 6, length = 96, deadInput = -1, noise = 0, keep = [] }: TestJobOptions = {},
): TestJob {
  const config = { ...TEST_CONFIG, ...shape };
  const block = randomBlock(context, config);
  const states = hiddenStates([samples, length, config.hiddenSize], deadInput);
  const stream = (values: readonly Float32Array[], name: string): WritableStream => {
    const made = scratch(name, config.hiddenSize);
    for (const [index, sample] of values.entries()) made.upload(index, sample);
    return made;
  };
  const scratch = (name: string, hidden: number) => openStream(context, { samples, length, hidden }, null, name);
  const referenceInputs = stream(states, "references");
  const inputs =
    noise === 0
      ? referenceInputs
      : stream(
          states.map((values, i) => noisy(values, noise, i)),
          "inputs",
        );
  const inverse = place(context, inverseFrequencies(config.rope, config.headDim));
  const run = (from: CalibrationStream, linears: TrainableLinears): Float32Array[] =>
    forward(context, config, block, from, inverse, linears);
  const reference = run(referenceInputs, new Map());
  const events: MethodEvent[] = [];
  const job: BlockJob = {
    context,
    config,
    layer: 0,
    block,
    inverseFrequencies: inverse,
    settings: { ...DEFAULTS, ...settings },
    kept: new Set(blockLinears(block).filter(({ name }) => keep.some((end) => name.endsWith(end)))),
    init: null,
    calibration: { inputs, referenceInputs, targets: stream(reference, "targets"), scratch },
    report: (event) => {
      events.push(event);
      return Promise.resolve();
    },
  };
  const outputError = (result: ReadonlyMap<string, QuantizedLinear>): number => {
    using frozen = new FrozenLinears(context);
    for (const linear of blockLinears(block)) {
      const quantized = result.get(linear.name);
      if (quantized) frozen.add(linear, quantized);
    }
    const outputs = run(inputs, frozen.trainable);
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

function place(context: Context, values: Float32Array): Ref {
  const buffer: DeviceBuffer = context.alloc(values.byteLength);
  buffer.upload(values);
  return buffer.at(0);
}

function randomBlock(context: Context, config: DecoderConfig): BlockWeights {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, qkvBias, outputBias, mlpBias, qkNorm } = config;
  let seed = 1;
  const linear = (name: string, outFeatures: number, inFeatures: number, biased: boolean): Linear => {
    const bias = biased ? place(context, normals(outFeatures, 0.5, seed++)) : null;
    const data = place(context, normals(outFeatures * inFeatures, 1 / Math.sqrt(inFeatures), seed++));
    const weight = { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
    return { name: `model.layers.0.${name}`, weight, bias, loraTarget: -1 };
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

/** Rows that share most of what they are: a mixture of a dozen directions and some noise, as activations of a model are. */
function hiddenStates([samples, length, hidden]: readonly [number, number, number], deadInput: number): Float32Array[] {
  const directions = Array.from({ length: 12 }, (_, i) => normals(hidden, 1 / (1 + i / 4), 100 + i));
  return Array.from({ length: samples }, (_, sample) => {
    const values = normals(length * hidden, 0.15, 200 + sample);
    const parts = normals(length * directions.length, 1, 300 + sample);
    for (let t = 0; t < length; t++) {
      for (const [d, direction] of directions.entries()) {
        const part = parts[t * directions.length + d]!;
        for (let i = 0; i < hidden; i++) values[t * hidden + i] = values[t * hidden + i]! + part * direction[i]!;
      }
      if (deadInput >= 0) values[t * hidden + deadInput] = 0;
    }
    return values;
  });
}

function noisy(values: Float32Array, deviation: number, sample: number): Float32Array {
  const noise = normals(values.length, deviation, 400 + sample);
  return values.map((value, i) => value + noise[i]!);
}

function forward(
  context: Context,
  config: DecoderConfig,
  block: BlockWeights,
  inputs: CalibrationStream,
  inverseFrequencies: Ref,
  trainable: TrainableLinears,
): Float32Array[] {
  const { samples, length, hidden } = inputs;
  using buffer = context.alloc(trainingArenaBytes(config, 1, length, false, { rank: 64, dora: true }));
  const arena = new Arena(buffer);
  using ops = new TrainingOps({ context, config, arena, sequences: 1, length, inverseFrequencies, trainable });
  return Array.from({ length: samples }, (_, sample) => {
    ops.begin(false);
    const { ref } = decoderBlock(ops, config, block, 0, ops.input(inputs.read(sample)));
    return ref.buffer.download(new Float32Array(length * hidden), ref.offset);
  });
}
