/** The dense model a run starts from: opened and checked whole, then read one block at a time. */
import { closeSync, openSync, readSync } from "node:fs";
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE } from "../../ffi/mod.ts";
import { bfloatsToFloats, halvesToFloats } from "../formats/floats.ts";
import {
  type Checkpoint,
  FLOAT_DTYPES,
  FormatError,
  openCheckpoint,
  readTensor,
  type StoredTensor,
} from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { inverseFrequencies } from "../models/rope.ts";
import type { BlockWeights, Linear, Norm } from "../models/weights.ts";

/** One of the seven linears of a block, as it lies in the source. */
export interface SourceLinear {
  /** Hugging Face's module name. */
  readonly module: string;
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** [out, in], F32, F16 or BF16 */
  readonly weight: StoredTensor;
  /** [out] */
  readonly bias: StoredTensor | null;
}

/** A block's weights in float32 on the device; linears are rewritten in place as they are quantized. */
export interface SourceBlock extends Disposable {
  readonly weights: BlockWeights;
}

export interface Source {
  readonly dir: string;
  readonly checkpoint: Checkpoint;
  readonly config: DecoderConfig;
  /** By block, in forward order. */
  readonly blocks: readonly (readonly SourceLinear[])[];
  /** [vocab, hidden] */
  readonly embedding: StoredTensor;
  /** [vocab, hidden], null where the head is the embedding. */
  readonly head: StoredTensor | null;
}

const NORMS = { inputNorm: "input_layernorm", postAttentionNorm: "post_attention_layernorm" } as const;

/**
 * Opens a model folder for quantization. Reads headers only; everything that a run will need is checked here.
 *
 * @throws {FormatError} for packed weights, tensors that are missing or of the wrong shape, and an unsupported config
 */
export function openSource(dir: string): Source {
  const checkpoint = openCheckpoint(dir);
  const config = parseConfig(checkpoint.config, `${dir}/config.json`);
  refusePacked(checkpoint);
  const { vocabSize, hiddenSize, layers } = config;
  const table = (module: string): StoredTensor =>
    checkpoint.tensor(`${module}.weight`, { dtype: FLOAT_DTYPES, shape: [vocabSize, hiddenSize] });
  const blocks = Array.from({ length: layers }, (_, layer) => blockLinears(checkpoint, config, layer));
  for (const name of [...normNames(config), "model.norm"]) normTensor(checkpoint, config, name);
  return {
    dir,
    checkpoint,
    config,
    blocks,
    embedding: table("model.embed_tokens"),
    head: config.tiedEmbeddings ? null : table("lm_head"),
  };
}

function refusePacked(checkpoint: Checkpoint): void {
  const { dir, quantization } = checkpoint;
  const packed = [...checkpoint.tensors.keys()].find((name) => name.endsWith(".qweight"));
  if (quantization === undefined && packed === undefined) return;
  const received = quantization === undefined ? packed : `${quantization.method}, ${quantization.base.bits} bits`;
  const reason = "its weights are packed already";
  const expected = "float16, bfloat16 or float32 weights; apiq export makes them";
  throw new FormatError("use", { file: dir, reason, received, expected });
}

/** Every norm of the blocks, by module name. */
function normNames(config: DecoderConfig): string[] {
  const perHead = config.qkNorm ? ["self_attn.q_norm", "self_attn.k_norm"] : [];
  return Array.from({ length: config.layers }, (_, layer) =>
    [...Object.values(NORMS), ...perHead].map((part) => `model.layers.${layer}.${part}`),
  ).flat();
}

function normTensor(checkpoint: Checkpoint, config: DecoderConfig, module: string): StoredTensor {
  const size = module.includes(".self_attn.") ? config.headDim : config.hiddenSize;
  return checkpoint.tensor(`${module}.weight`, { dtype: FLOAT_DTYPES, shape: [size] });
}

function blockLinears(checkpoint: Checkpoint, c: DecoderConfig, layer: number): SourceLinear[] {
  const queries = c.heads * c.headDim;
  const keys = c.kvHeads * c.headDim;
  const linear = (part: string, outFeatures: number, inFeatures: number, hasBias: boolean): SourceLinear => {
    const module = `model.layers.${layer}.${part}`;
    const weight = checkpoint.tensor(`${module}.weight`, { dtype: FLOAT_DTYPES, shape: [outFeatures, inFeatures] });
    const name = `${module}.bias`;
    if (!hasBias && checkpoint.has(name)) {
      const reason = `a bias that model_type ${c.family.name} does not have here`;
      throw new FormatError("use", { file: checkpoint.dir, tensor: name, reason });
    }
    const bias = hasBias ? checkpoint.tensor(name, { dtype: FLOAT_DTYPES, shape: [outFeatures] }) : null;
    return { module, outFeatures, inFeatures, weight, bias };
  };
  return [
    linear("self_attn.q_proj", queries, c.hiddenSize, c.qkvBias),
    linear("self_attn.k_proj", keys, c.hiddenSize, c.qkvBias),
    linear("self_attn.v_proj", keys, c.hiddenSize, c.qkvBias),
    linear("self_attn.o_proj", c.hiddenSize, queries, c.outputBias),
    linear("mlp.gate_proj", c.intermediateSize, c.hiddenSize, c.mlpBias),
    linear("mlp.up_proj", c.intermediateSize, c.hiddenSize, c.mlpBias),
    linear("mlp.down_proj", c.hiddenSize, c.intermediateSize, c.mlpBias),
  ];
}

/** Bytes of a block in float32, its norms and biases counted. */
export function blockBytes(linears: readonly SourceLinear[]): number {
  return linears.reduce((sum, { outFeatures, inFeatures }) => sum + 4 * outFeatures * (inFeatures + 1), 0);
}

/** The weights of a linear in float32. @throws {FormatError} where one is no finite number */
export function readWeights({ weight }: SourceLinear): Float32Array {
  return finite(readTensor(weight), weight);
}

/** Reads block `layer` into float32 on the device. */
export function loadBlock(context: Context, source: Source, layer: number): SourceBlock {
  const { config, checkpoint } = source;
  const buffers: DeviceBuffer[] = [];
  const dispose = (): void => {
    for (const buffer of buffers.splice(0)) buffer[Symbol.dispose]();
  };
  const place = (values: Float32Array): Ref => {
    const buffer = context.alloc(values.byteLength);
    buffers.push(buffer);
    buffer.upload(values);
    return buffer.at(0);
  };
  const linear = (from: SourceLinear, index: number): Linear => ({
    name: from.module,
    weight: denseWeight(place(readWeights(from)), from.outFeatures, from.inFeatures),
    bias: from.bias === null ? null : place(finite(readTensor(from.bias), from.bias)),
    loraTarget: layer * 7 + index,
  });
  const norm = (part: string): Norm => {
    const tensor = normTensor(checkpoint, config, `model.layers.${layer}.${part}`);
    return { weight: place(finite(readTensor(tensor), tensor)), size: tensor.shape[0]! };
  };
  try {
    const [q, k, v, o, gate, up, down] = source.blocks[layer]!.map(linear);
    const weights: BlockWeights = {
      inputNorm: norm(NORMS.inputNorm),
      q: q!,
      k: k!,
      v: v!,
      qNorm: config.qkNorm ? norm("self_attn.q_norm") : null,
      kNorm: config.qkNorm ? norm("self_attn.k_norm") : null,
      o: o!,
      postAttentionNorm: norm(NORMS.postAttentionNorm),
      gate: gate!,
      up: up!,
      down: down!,
    };
    return { weights, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

function denseWeight(data: Ref, outFeatures: number, inFeatures: number): Linear["weight"] {
  return { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
}

/** float32 [headDim / 2] on the device; the caller disposes it. */
export function loadInverseFrequencies(context: Context, config: DecoderConfig): DeviceBuffer {
  const values = inverseFrequencies(config.rope, config.headDim);
  const buffer = context.alloc(values.byteLength);
  buffer.upload(values);
  return buffer;
}

function finite(values: Float32Array, tensor: StoredTensor): Float32Array {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return values;
  const columns = tensor.shape.at(-1)!;
  const where = tensor.shape.length > 1 ? `row ${Math.floor(at / columns)}, column ${at % columns}` : `element ${at}`;
  const reason = `a weight that is no finite number at ${where}`;
  const details = { file: tensor.path, tensor: tensor.name, reason, received: String(values[at]) };
  throw new FormatError("use", details);
}

/** Single rows of a table [entries, width] that stays in its file. */
export class TableRows implements Disposable {
  readonly #tensor: StoredTensor;
  readonly #rowBytes: number;
  readonly #file: number;

  constructor(tensor: StoredTensor) {
    this.#tensor = tensor;
    this.#rowBytes = tensor.bytes / tensor.shape[0]!;
    this.#file = openSync(tensor.path, "r");
  }

  /** float32 [width] */
  read(row: number): Float32Array {
    const bytes = new Uint8Array(this.#rowBytes);
    const got = readSync(this.#file, bytes, 0, bytes.length, this.#tensor.offset + row * this.#rowBytes);
    if (got !== bytes.length) {
      const { path: file, name: tensor } = this.#tensor;
      throw new FormatError("read", { file, tensor, reason: "truncated", received: got, expected: bytes.length });
    }
    switch (this.#tensor.dtype) {
      case "F16":
        return halvesToFloats(new Uint16Array(bytes.buffer));
      case "BF16":
        return bfloatsToFloats(new Uint16Array(bytes.buffer));
      default:
        return new Float32Array(bytes.buffer);
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
