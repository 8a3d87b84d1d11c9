/** A small decoder block with random weights and calibration streams, for tests of methods. */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE } from "../../../ffi/mod.ts";
import { parseConfig } from "../../models/config.ts";
import { decoderBlock } from "../../models/decoder.ts";
import { inverseFrequencies } from "../../models/rope.ts";
import { type BlockWeights, blockLinears, type Linear, type Norm } from "../../models/weights.ts";
import { TrainingOps, trainingArenaBytes } from "../../ops/training.ts";
import { Arena } from "../../tensor.ts";
import type { BlockJob, CalibrationStream, MethodEvent, MethodSettings, QuantizedLinear } from "../method.ts";
import { FrozenLinears } from "./frozen.ts";
import { uniform } from "./random.ts";
import { linearShapes } from "./working_bytes.ts";

const CONFIG = parseConfig(
  {
    model_type: "qwen2",
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    vocab_size: 32,
    max_position_embeddings: 64,
  },
  "the test",
);
const SAMPLES = 3;
const LENGTH = 24;
const NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

const SETTINGS: MethodSettings = {
  bits: 2,
  group: 32,
  rank: 4,
  alpha: 8,
  dora: false,
  epochs: 8,
  loraLearningRate: 2e-3,
  clippingLearningRate: 1e-2,
  weightDecay: 0.1,
  augLoss: false,
  damping: 0.01,
  iterations: 1,
  base: "affine",
  doubleQuantization: false,
  seed: 1,
};

export interface TestJob {
  readonly job: BlockJob;
  readonly linears: readonly Linear[];
  readonly events: MethodEvent[];
  /** Mean squared error of the block with these linears on the quantized stream, to the targets. */
  error(results: ReadonlyMap<string, QuantizedLinear>): number;
}

export function createTestJob(
  context: Context,
  settings: Partial<MethodSettings> = {},
  given: Partial<BlockJob> = {},
): TestJob {
  const put = (values: Float32Array): Ref => {
    const buffer = context.alloc(values.byteLength);
    buffer.upload(values);
    return buffer.at(0);
  };
  const [q, k, v, o, gate, up, down] = linearShapes(CONFIG).map(([outFeatures, inFeatures], i): Linear => {
    const data = put(uniform(outFeatures * inFeatures, 1.7 / Math.sqrt(inFeatures), 1, i));
    return {
      name: NAMES[i],
      weight: { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures },
      bias: i < 3 ? put(uniform(outFeatures, 1, 2, i)) : null,
      loraTarget: i,
    };
  });
  const norm: Norm = { weight: put(new Float32Array(CONFIG.hiddenSize).fill(1)), size: CONFIG.hiddenSize };
  const shared = { inputNorm: norm, qNorm: null, kNorm: null, postAttentionNorm: norm };
  const block: BlockWeights = { ...shared, q, k, v, o, gate, up, down };
  const frequencies = put(inverseFrequencies(CONFIG.rope, CONFIG.headDim));
  const count = LENGTH * CONFIG.hiddenSize;
  const stream = (values: Float32Array): CalibrationStream & { buffer: DeviceBuffer } => {
    const { buffer } = put(values);
    return {
      samples: SAMPLES,
      length: LENGTH,
      hidden: CONFIG.hiddenSize,
      buffer,
      read: (i) => buffer.at(i * count * 4),
    };
  };
  const reference = uniform(SAMPLES * count, 1.7, 3);
  const noise = uniform(SAMPLES * count, 0.1, 4);
  const inputs = stream(reference.map((value, i) => value + noise[i]));
  const referenceInputs = stream(reference);

  /** The block on all samples at once, [samples, length, hidden]. */
  const run = (
    from: DeviceBuffer,
    trainable: ConstructorParameters<typeof TrainingOps>[0]["trainable"],
  ): Float32Array => {
    using buffer = context.alloc(trainingArenaBytes(CONFIG, SAMPLES, LENGTH, false, { rank: 64, dora: true }));
    using ops = new TrainingOps({
      context,
      config: CONFIG,
      arena: new Arena(buffer),
      sequences: SAMPLES,
      length: LENGTH,
      inverseFrequencies: frequencies,
      trainable,
    });
    ops.begin(false);
    const y = decoderBlock(ops, CONFIG, block, 0, ops.input(from.at(0)));
    return y.ref.buffer.download(new Float32Array(SAMPLES * count), y.ref.offset);
  };
  const targets = run(referenceInputs.buffer, new Map());
  const events: MethodEvent[] = [];
  const job: BlockJob = {
    context,
    config: CONFIG,
    layer: 0,
    block,
    inverseFrequencies: frequencies,
    settings: { ...SETTINGS, ...settings },
    kept: new Set(),
    init: null,
    calibration: { inputs, referenceInputs, targets: stream(targets) },
    report: async (event) => {
      events.push(event);
    },
    ...given,
  };
  const error = (results: ReadonlyMap<string, QuantizedLinear>): number => {
    using frozen = new FrozenLinears(context);
    for (const linear of blockLinears(block)) {
      const result = results.get(linear.name);
      if (result) frozen.add(linear, result);
    }
    const outputs = run(inputs.buffer, frozen.trainable);
    return outputs.reduce((sum, value, i) => sum + (value - targets[i]) ** 2, 0) / outputs.length;
  };
  return { job, linears: blockLinears(block), events, error };
}
