/**
 * How much memory the training ops need for one block: what a pass takes whose ops do nothing. So the size follows from the ops
 * themselves and is exact.
 */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderBlock } from "../models/decoder.ts";
import { type BlockWeights, blockLinears, type Linear, type Norm } from "../models/weights.ts";
import { Arena } from "../tensor.ts";
import { LoraDropout } from "./dropout.ts";
import type { TrainableLinear } from "./training_linear.ts";
import { TrainingOps } from "./training_ops.ts";

export interface TrainingArenaOptions {
  /** LoRA's rank on all seven linears; 0: none. */
  readonly rank?: number;
  readonly dora?: boolean;
  /** Whether factors of packed weights train. */
  readonly factors?: boolean;
  /** Whether LoRA's inputs drop out. */
  readonly dropout?: boolean;
  /** Whether the gradient of the block's input is wanted. */
  readonly inputGradient?: boolean;
}

/** Memory that is not there. */
const NOWHERE = {
  bytes: Number.POSITIVE_INFINITY,
  at(offset: number): Ref {
    return { buffer: NOWHERE, offset };
  },
  upload() {},
  download: <T>(target: T): T => target,
  [Symbol.dispose]() {},
} as unknown as DeviceBuffer;

/** A context whose ops do nothing. */
const IDLE = new Proxy({} as Context, {
  get: (_, name) => (name === "alloc" ? () => NOWHERE : () => {}),
});

/** Of one block. */
export interface ArenaBytes {
  /** Held behind the forward pass; with `record`, what the backward pass needs of it. */
  readonly held: number;
  readonly peak: number;
}

/** The peak of `trainingArena`. */
export function trainingArenaBytes(
  config: DecoderConfig,
  sequences: number,
  length: number,
  record: boolean,
  options: TrainingArenaOptions = {},
): number {
  return trainingArena(config, sequences, length, record, options).peak;
}

/** Bytes of arena that one block's forward pass takes or, with `record`, its forward and backward pass. */
export function trainingArena(
  config: DecoderConfig,
  sequences: number,
  length: number,
  record: boolean,
  options: TrainingArenaOptions = {},
): ArenaBytes {
  const { rank = 0, dora = false, factors = false, dropout = false, inputGradient = false } = options;
  const block = blockOf(config);
  const ref = NOWHERE.at(0);
  const magnitude = dora ? { magnitude: ref, dmagnitude: ref } : null;
  const lora = rank > 0 ? { a: ref, b: ref, da: ref, db: ref, rank, scale: 1, dora: magnitude } : null;
  const multiplied = factors ? { factors: { value: ref, gradient: ref } } : {};
  const trained: TrainableLinear = { weight: null, dweight: ref, lora, ...multiplied };
  const arena = new Arena(NOWHERE);
  const masks = dropout ? new LoraDropout({ probability: 0.5, seed: 0 }, blockLinears(block)) : null;
  if (masks) masks.draw = 0;
  using ops = new TrainingOps({
    context: IDLE,
    config,
    arena,
    sequences,
    length,
    inverseFrequencies: ref,
    trainable: new Map(blockLinears(block).map((linear) => [linear, trained])),
    dropout: masks,
  });
  ops.begin(record);
  const y = decoderBlock(ops, config, block, 0, ops.input(ref, inputGradient));
  const held = arena.mark();
  if (record) ops.backward(y, { ...y });
  return { held, peak: arena.peak };
}

/** A block of the shapes of `config`, without contents. */
function blockOf(config: DecoderConfig): BlockWeights {
  const data = NOWHERE.at(0);
  const linear = (outFeatures: number, inFeatures: number, biased: boolean): Linear => ({
    name: "",
    weight: { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures },
    bias: biased ? data : null,
    loraTarget: -1,
  });
  const norm = (size: number): Norm => ({ weight: data, size });
  const { hiddenSize, intermediateSize, qkvBias, mlpBias } = config;
  const queries = config.heads * config.headDim;
  const keys = config.kvHeads * config.headDim;
  return {
    inputNorm: norm(hiddenSize),
    q: linear(queries, hiddenSize, qkvBias),
    k: linear(keys, hiddenSize, qkvBias),
    v: linear(keys, hiddenSize, qkvBias),
    qNorm: config.qkNorm ? norm(config.headDim) : null,
    kNorm: config.qkNorm ? norm(config.headDim) : null,
    o: linear(hiddenSize, queries, config.outputBias),
    postAttentionNorm: norm(hiddenSize),
    gate: linear(intermediateSize, hiddenSize, mlpBias),
    up: linear(intermediateSize, hiddenSize, mlpBias),
    down: linear(hiddenSize, intermediateSize, mlpBias),
  };
}
