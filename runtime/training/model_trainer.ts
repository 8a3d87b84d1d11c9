/**
 * Training of a whole decoder on next-token losses. Of the forward pass only each block's input is kept; the backward pass runs a
 * block again before it differentiates it (gradient checkpointing, arXiv 1604.06174), unless there is memory to keep all that it
 * needs. Packed weights stay packed and pass through one shared buffer (runtime/ops/training_weights.ts). `trainerMemory` tells
 * what this takes besides weights and parameters.
 */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderBlock } from "../models/decoder.ts";
import { type BlockWeights, blockLinears, type DecoderWeights, type Linear, type Norm } from "../models/weights.ts";
import {
  type Compute,
  copyTensor,
  type DropoutSettings,
  LoraDropout,
  learns,
  type Recording,
  type TrainableLinear,
  type TrainableNorm,
  type TrainingArenaOptions,
  TrainingOps,
  trainingArena,
} from "../ops/training.ts";
import { Arena, type Tensor } from "../tensor.ts";
import type { LossSums, Objective, RowTargets } from "./objective.ts";
import { TokenLoss, tokenLossBytes } from "./token_loss.ts";

export interface ModelTrainerOptions {
  readonly context: Context;
  readonly weights: DecoderWeights;
  /** How linears of the blocks run that train or carry LoRA; embedding and head are frozen. */
  readonly trainable: ReadonlyMap<Linear, TrainableLinear>;
  /** How norms run that train, among them the final one. */
  readonly norms?: ReadonlyMap<Norm, TrainableNorm>;
  /** Sequences that go through together. */
  readonly sequences: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** Cross-entropy unless given. */
  readonly objective?: Objective;
  /** Of LoRA's inputs, in `gradients` only; none unless given. */
  readonly dropout?: DropoutSettings;
  /** Whether the backward pass runs each block again; false keeps what it needs of all blocks at once. True unless given. */
  readonly recompute?: boolean;
  /** How linears and the head multiply, in `loss` too; float32 unless given. */
  readonly compute?: Compute;
}

/** Token ids and what follows each of them; all [sequences * length]. */
export interface TokenBatch extends RowTargets {
  readonly ids: Int32Array;
  /** Given together where several examples lie behind each other in a sequence; see TrainingOps.place. Absent: 0 .. length - 1. */
  readonly positions?: Int32Array;
  readonly rowStart?: Int32Array;
  /** Which masks dropout takes: the batch's number in the run, a whole number from 0. */
  readonly draw?: number;
}

/** A sequence as training takes it: every token's target is the next one, the last has none. */
export function nextTokens(ids: Int32Array): TokenBatch {
  const targets = new Int32Array(ids.length).fill(-1);
  targets.set(ids.subarray(1));
  return { ids, targets };
}

/** What the arena must have room for, given how linears train. */
export function arenaOptions(trainable: ReadonlyMap<Linear, TrainableLinear>): TrainingArenaOptions {
  const linears = [...trainable.values()];
  return {
    rank: Math.max(0, ...linears.flatMap(({ lora, below }) => [lora?.rank ?? 0, below?.rank ?? 0])),
    dora: linears.some(({ lora }) => lora?.dora),
    factors: linears.some(({ factors }) => factors),
    inputGradient: true,
  };
}

export interface TrainerMemoryOptions extends TrainingArenaOptions {
  readonly objective?: Objective;
  readonly recompute?: boolean;
}

/** Device memory of a trainer in bytes, besides weights and parameters. */
export interface TrainerMemory {
  /** Inputs of the blocks, and the gradient that goes back: 4 rows hidden (layers + 2). */
  readonly states: number;
  /** One block's forward and backward pass; without recomputation, what all blocks keep for it as well. */
  readonly arena: number;
  /** A chunk of logits. */
  readonly logits: number;
}

export function trainerMemory(
  config: DecoderConfig,
  sequences: number,
  length: number,
  options: TrainerMemoryOptions,
): TrainerMemory {
  const { objective, recompute = true } = options;
  const rows = sequences * length;
  const { held, peak } = trainingArena(config, sequences, length, true, options);
  return {
    states: (config.layers + 2) * rows * config.hiddenSize * 4,
    arena: recompute ? peak : (config.layers - 1) * held + peak,
    logits: tokenLossBytes(config, rows, objective),
  };
}

/** The sum of `trainerMemory`. */
export function trainerBytes(
  config: DecoderConfig,
  sequences: number,
  length: number,
  options: TrainerMemoryOptions,
): number {
  const { states, arena, logits } = trainerMemory(config, sequences, length, options);
  return states + arena + logits;
}

/** A block's forward pass, to be differentiated. */
interface RecordedBlock {
  readonly recording: Recording;
  readonly x: Tensor;
  readonly y: Tensor;
}

export class ModelTrainer implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  /** The first block with something to learn: gradients go no further back. */
  readonly #firstBlock: number;
  readonly #recompute: boolean;
  readonly #dropout: LoraDropout | null;
  readonly #blockFloats: number;
  /** float32 [layers + 1, rows, hidden]: the input of each block, and the last one's output */
  readonly #states: DeviceBuffer;
  /** float32 [rows, hidden], the gradient of the states that the backward pass has come to */
  readonly #gradient: DeviceBuffer;
  readonly #ids: DeviceBuffer;
  readonly #ops: TrainingOps;
  readonly #loss: TokenLoss;
  readonly #owned: Disposable[];

  constructor(options: ModelTrainerOptions) {
    const { context, weights, trainable, norms, sequences, length, objective, dropout, compute } = options;
    const { recompute = true } = options;
    const { config, inverseFrequencies } = weights;
    const rows = sequences * length;
    this.#context = context;
    this.#weights = weights;
    this.#recompute = recompute;
    this.#firstBlock = weights.blocks.findIndex(
      (block) =>
        blockLinears(block).some((linear) => learns(trainable.get(linear))) ||
        blockNorms(block).some((norm) => norms?.get(norm)?.gradient),
    );
    const drops = dropout !== undefined && dropout.probability !== 0;
    this.#dropout = drops ? new LoraDropout(dropout, weights.blocks.flatMap(blockLinears)) : null;
    this.#blockFloats = rows * config.hiddenSize;
    this.#states = context.alloc((config.layers + 1) * this.#blockFloats * 4);
    this.#gradient = context.alloc(this.#blockFloats * 4);
    this.#ids = context.alloc(rows * 4);
    const kept = { ...arenaOptions(trainable), dropout: drops, recompute };
    const buffer = context.alloc(trainerMemory(config, sequences, length, kept).arena);
    this.#ops = new TrainingOps({
      context,
      config,
      arena: new Arena(buffer),
      sequences,
      length,
      inverseFrequencies,
      trainable,
      ...(norms && { norms }),
      dropout: this.#dropout,
      ...(compute && { compute }),
      ids: this.#ids.at(0),
    });
    const finalNorm = norms?.get(weights.finalNorm);
    this.#loss = new TokenLoss({
      context,
      weights,
      rows,
      ...(finalNorm && { finalNorm }),
      ...(objective && { objective }),
      ...(compute && { compute }),
    });
    this.#owned = [this.#states, this.#gradient, this.#ids, buffer, this.#ops, this.#loss];
  }

  /** The loss of the batch, forward only, without dropout. */
  loss(batch: TokenBatch): LossSums {
    this.#forward(batch, null, this.#weights.config.layers);
    return this.#loss.run(this.#state(this.#weights.config.layers), batch, null);
  }

  /**
   * Forward and backward pass: fills the gradients of everything that trains.
   * @param scale the gradients are those of scale * the loss's sum
   * @param accumulate whether they add to what their buffers hold
   */
  gradients(batch: TokenBatch, scale: number, accumulate: boolean): LossSums {
    const { layers } = this.#weights.config;
    if (this.#dropout && batch.draw === undefined) throw new Error("Cannot drop out: the batch has no `draw`");
    // The last block's backward pass follows its forward pass: it never runs again.
    const recordFrom = this.#firstBlock < 0 ? layers : this.#recompute ? layers - 1 : this.#firstBlock;
    const recorded = this.#forward(batch, batch.draw ?? null, recordFrom);
    const loss = this.#loss.run(this.#state(layers), batch, { ref: this.#gradient.at(0), scale, accumulate });
    if (this.#firstBlock < 0) return loss;
    for (let layer = layers - 1; layer >= this.#firstBlock; layer--) {
      this.#blockBackward(recorded.pop() ?? this.#recordBlock(layer, 0, true), layer, accumulate);
    }
    return loss;
  }

  #state(layer: number): Ref {
    return this.#states.at(layer * this.#blockFloats * 4);
  }

  /**
   * Fills the states.
   * @param draw of dropout's masks; null: none
   * @param recordFrom the first block that is recorded for its backward pass
   */
  #forward({ ids, positions, rowStart }: TokenBatch, draw: number | null, recordFrom: number): RecordedBlock[] {
    const { config, embedding, blocks } = this.#weights;
    const ops = this.#ops;
    if (this.#dropout) this.#dropout.draw = draw;
    this.#ids.upload(ids);
    ops.place(positions, rowStart);
    ops.begin(false);
    copyTensor(this.#context, ops.embedding(embedding).ref, this.#state(0), this.#blockFloats);
    const recorded: RecordedBlock[] = [];
    for (const [layer, block] of blocks.entries()) {
      let y: Tensor;
      if (layer >= recordFrom) {
        const last = this.#recordBlock(layer, recorded.at(-1)?.recording.mark ?? 0, false);
        recorded.push(last);
        y = last.y;
      } else {
        ops.begin(false);
        y = decoderBlock(ops, config, block, layer, ops.input(this.#state(layer)));
      }
      copyTensor(this.#context, y.ref, this.#state(layer + 1), this.#blockFloats);
    }
    return recorded;
  }

  /**
   * @param mark of the arena, from where the block's tensors lie
   * @param again whether the block has run before, so that its output is known: its last linear's is not computed
   */
  #recordBlock(layer: number, mark: number, again: boolean): RecordedBlock {
    const { config, blocks } = this.#weights;
    const block = blocks[layer];
    const ops = this.#ops;
    ops.begin(true, mark, again ? block.down : null);
    const x = ops.input(this.#state(layer), layer > this.#firstBlock);
    const y = decoderBlock(ops, config, block, layer, x);
    return { recording: ops.recording, x, y };
  }

  /** From the gradient of the block's output to that of its input. */
  #blockBackward({ recording, x, y }: RecordedBlock, layer: number, accumulate: boolean): void {
    const ops = this.#ops;
    ops.resume(recording);
    ops.backward(y, { ref: this.#gradient.at(0), dtype: "f32", shape: y.shape }, accumulate);
    if (layer > this.#firstBlock) this.#keepGradient(ops.gradientOf(x).ref);
  }

  /** Makes what may lie in the arena the gradient for the next block; the residual stream's may be there already. */
  #keepGradient(from: Ref): void {
    const to = this.#gradient.at(0);
    if (from.buffer === to.buffer && from.offset === to.offset) return;
    copyTensor(this.#context, from, to, this.#blockFloats);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}

function blockNorms({ inputNorm, qNorm, kNorm, postAttentionNorm }: BlockWeights): readonly Norm[] {
  return [inputNorm, qNorm, kNorm, postAttentionNorm].filter((norm) => norm !== null);
}
