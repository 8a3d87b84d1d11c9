/** The matrices of a model that is planned for: a known shape that nobody has made, or a folder's, from headers alone. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Context, F16, WEIGHT_AFFINE, WEIGHT_DENSE, type WeightShape, ZERO_INTEGER } from "../../ffi/mod.ts";
import { canTrain } from "../finetune/trained_weights.ts";
import { type AdapterSource, type LinearSource, openCheckpoint } from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { linearNames } from "../models/linear_names.ts";
import { placedBytes } from "../models/packed_arena.ts";
import { describePacked } from "../models/repack.ts";
import { SHAPES } from "../models/shapes.ts";
import type { EmbeddingBits } from "../quantize/settings.ts";

const EMBEDDING = "model.embed_tokens";

/** How matrices are stored that are not made yet. */
export interface PlannedStorage {
  readonly bits: 2 | 3 | 4 | 8;
  readonly group: 32 | 64 | 128;
  /** Of embedding and head. */
  readonly embeddingBits: EmbeddingBits;
}

export interface PlannedMatrix {
  /** Hugging Face's module name. */
  readonly module: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Columns that share a scale; 0: dense. */
  readonly group: number;
  /** Whether its weights could train, and not its scales alone. */
  readonly trains: boolean;
  /** On the device: of the weights alone, and of the scales, zeros and padding that belong to them. */
  readonly weightBytes: number;
  readonly scaleBytes: number;
  /** It passes through a buffer in float32 when training multiplies with it. */
  readonly widened: boolean;
}

export interface PlannedModel {
  readonly name: string;
  readonly config: DecoderConfig;
  /** How its matrices would be stored; null: as they lie in the folder. */
  readonly storage: PlannedStorage | null;
  /** Of all blocks, in forward order. */
  readonly linears: readonly PlannedMatrix[];
  /** Embedding, and the head where it is not the same. */
  readonly tables: readonly PlannedMatrix[];
  /** Elements of each norm. */
  readonly normSizes: readonly number[];
  /** Of norms, biases and rotary frequencies, which are held in float32. */
  readonly vectorBytes: number;
  readonly calibratedLora: AdapterSource | null;
}

/**
 * @param shape a name in SHAPES, or a folder
 * @param storage of matrices that are to be packed; null: as they lie in the folder, which it takes then
 * @throws {FormatError} for a folder that could not be loaded
 */
export function plannedModel(context: Context, shape: string, storage: PlannedStorage | null): PlannedModel {
  const known = SHAPES[shape];
  if (known === undefined && !existsSync(shape)) {
    const names = Object.keys(SHAPES).join(", ");
    throw new Error(`Cannot plan for "${shape}": expected a model folder or one of ${names}`);
  }
  if (known !== undefined) return imaginedModel(context, shape, parseConfig(known, shape), storage ?? DEFAULT_STORAGE);
  const checkpoint = openCheckpoint(shape);
  const config = parseConfig(checkpoint.config, join(shape, "config.json"));
  const calibrated = checkpoint.initAdapter ?? null;
  if (storage !== null) {
    if (checkpoint.quantization !== undefined) {
      throw new Error(`Cannot plan ${shape} with other bits: it is packed already; leave --bits and the like out`);
    }
    return imaginedModel(context, shape, config, storage, calibrated);
  }
  const { vocabSize, hiddenSize } = config;
  return {
    name: shape,
    config,
    storage: null,
    linears: linearNames(config).map(({ module, outFeatures, inFeatures }) =>
      stored(context, module, checkpoint.linear(module, outFeatures, inFeatures)),
    ),
    tables: tableNames(config).map((module) =>
      module === EMBEDDING
        ? stored(context, module, checkpoint.embedding(module, vocabSize, hiddenSize))
        : stored(context, module, checkpoint.linear(module, vocabSize, hiddenSize)),
    ),
    normSizes: normSizes(config),
    vectorBytes: vectorBytes(config),
    calibratedLora: calibrated,
  };
}

/** What `apiq quantize` makes by default. */
export const DEFAULT_STORAGE: PlannedStorage = { bits: 2, group: 64, embeddingBits: 16 };

/** A model of these shapes that nobody has made. */
export function imaginedModel(
  context: Context,
  name: string,
  config: DecoderConfig,
  storage: PlannedStorage,
  calibratedLora: AdapterSource | null = null,
): PlannedModel {
  const { bits, group, embeddingBits } = storage;
  const packed = (width: number, outFeatures: number, inFeatures: number): WeightShape => {
    if (inFeatures % group === 0) {
      return { kind: WEIGHT_AFFINE, dtype: 0, bits: width, group, zero: ZERO_INTEGER, outFeatures, inFeatures };
    }
    throw new Error(`Cannot plan groups of ${group}: a matrix of ${name} has ${inFeatures} columns`);
  };
  const dense = (outFeatures: number, inFeatures: number): WeightShape => {
    return { kind: WEIGHT_DENSE, dtype: F16, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
  };
  const { vocabSize, hiddenSize } = config;
  const table = embeddingBits === 16 ? dense(vocabSize, hiddenSize) : packed(embeddingBits, vocabSize, hiddenSize);
  return {
    name,
    config,
    storage,
    linears: linearNames(config).map(({ module, outFeatures, inFeatures }) =>
      placed(context, module, packed(bits, outFeatures, inFeatures)),
    ),
    tables: tableNames(config).map((module) => placed(context, module, table)),
    normSizes: normSizes(config),
    vectorBytes: vectorBytes(config),
    calibratedLora,
  };
}

function tableNames({ tiedEmbeddings }: DecoderConfig): string[] {
  return tiedEmbeddings ? [EMBEDDING] : [EMBEDDING, "lm_head"];
}

function stored(context: Context, module: string, source: LinearSource): PlannedMatrix {
  if (source.kind !== "dense") return placed(context, module, describePacked(source));
  const { outFeatures, inFeatures, weight } = source;
  const shape = { module, outFeatures, inFeatures, group: 0, trains: false };
  return { ...shape, weightBytes: weight.bytes, scaleBytes: 0, widened: weight.dtype !== "F32" };
}

function placed(context: Context, module: string, shape: WeightShape): PlannedMatrix {
  const { outFeatures, inFeatures, kind, bits, group } = shape;
  const values = outFeatures * inFeatures;
  // Dense matrices stay where the file is mapped, so they take what they hold.
  const weightBytes = kind === WEIGHT_DENSE ? 2 * values : (values * bits) / 8;
  const scaleBytes = kind === WEIGHT_DENSE ? 0 : placedBytes(context, shape) - weightBytes;
  const trains = canTrain({ weight: shape });
  return { module, outFeatures, inFeatures, group, trains, weightBytes, scaleBytes, widened: true };
}

function normSizes({ layers, hiddenSize, headDim, qkNorm }: DecoderConfig): number[] {
  const ofBlock = [hiddenSize, hiddenSize, ...(qkNorm ? [headDim, headDim] : [])];
  return [...Array.from({ length: layers }, () => ofBlock).flat(), hiddenSize];
}

function vectorBytes(config: DecoderConfig): number {
  const { layers, hiddenSize, intermediateSize, heads, kvHeads, headDim } = config;
  const queries = heads * headDim;
  const keys = kvHeads * headDim;
  const norms = normSizes(config).reduce((sum, size) => sum + size, 0);
  const biases =
    (config.qkvBias ? queries + 2 * keys : 0) +
    (config.outputBias ? hiddenSize : 0) +
    (config.mlpBias ? 2 * intermediateSize + hiddenSize : 0);
  return 4 * (norms + layers * biases + headDim / 2);
}
