/**
 * Training of a whole decoder on next-token cross-entropy. Of the forward pass only each block's input is kept; the backward pass
 * runs a block again before it differentiates it (gradient checkpointing, arXiv 1604.06174). Packed weights stay packed and pass
 * through one shared buffer (runtime/ops/training_weights.ts). Memory besides weights and parameters, in bytes:
 *
 *   4 rows hidden (layers + 2)       blocks' inputs, and the gradient that goes back
 *   trainingArenaBytes               one block's forward and backward pass
 *   32 MiB                           a chunk of logits (token_loss.ts)
 */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderBlock } from "../models/decoder.ts";
import { blockLinears, type DecoderWeights, type Linear } from "../models/weights.ts";
import {
  copyTensor,
  learns,
  type TrainableLinear,
  type TrainingArenaOptions,
  TrainingOps,
  trainingArenaBytes,
} from "../ops/training.ts";
import { Arena } from "../tensor.ts";
import { TokenLoss, tokenLossBytes } from "./token_loss.ts";

export interface ModelTrainerOptions {
  readonly context: Context;
  readonly weights: DecoderWeights;
  /** How linears of the blocks run that train or carry LoRA; embedding, norms and head are frozen. */
  readonly trainable: ReadonlyMap<Linear, TrainableLinear>;
  /** Sequences that go through together. */
  readonly sequences: number;
  /** Tokens of a sequence. */
  readonly length: number;
}

/** Token ids and what follows each of them; both [sequences * length]. */
export interface TokenBatch {
  readonly ids: Int32Array;
  /** Negative: the row has no part in the loss. */
  readonly targets: Int32Array;
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
    rank: Math.max(0, ...linears.map(({ lora }) => lora?.rank ?? 0)),
    dora: linears.some(({ lora }) => lora?.dora),
    factors: linears.some(({ factors }) => factors),
    inputGradient: true,
  };
}

/** Device memory of a trainer, besides weights and parameters. */
export function trainerBytes(
  config: DecoderConfig,
  sequences: number,
  length: number,
  options: TrainingArenaOptions,
): number {
  const rows = sequences * length;
  const states = (config.layers + 2) * rows * config.hiddenSize * 4;
  return states + trainingArenaBytes(config, sequences, length, true, options) + tokenLossBytes(config, rows);
}

export class ModelTrainer implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  /** The first block with something to learn: gradients go no further back. */
  readonly #firstBlock: number;
  readonly #blockFloats: number;
  /** float32 [layers + 1, rows, hidden]: the input of each block, and the last one's output */
  readonly #states: DeviceBuffer;
  /** float32 [rows, hidden], the gradient of the states that the backward pass has come to */
  readonly #gradient: DeviceBuffer;
  readonly #ids: DeviceBuffer;
  readonly #ops: TrainingOps;
  readonly #loss: TokenLoss;
  readonly #owned: Disposable[];

  constructor({ context, weights, trainable, sequences, length }: ModelTrainerOptions) {
    const { config, inverseFrequencies } = weights;
    const rows = sequences * length;
    this.#context = context;
    this.#weights = weights;
    this.#firstBlock = weights.blocks.findIndex((block) => blockLinears(block).some((l) => learns(trainable.get(l))));
    this.#blockFloats = rows * config.hiddenSize;
    this.#states = context.alloc((config.layers + 1) * this.#blockFloats * 4);
    this.#gradient = context.alloc(this.#blockFloats * 4);
    this.#ids = context.alloc(rows * 4);
    const buffer = context.alloc(trainingArenaBytes(config, sequences, length, true, arenaOptions(trainable)));
    const ids = this.#ids.at(0);
    const arena = new Arena(buffer);
    this.#ops = new TrainingOps({ context, config, arena, sequences, length, inverseFrequencies, trainable, ids });
    this.#loss = new TokenLoss(context, weights, rows);
    this.#owned = [this.#states, this.#gradient, this.#ids, buffer, this.#ops, this.#loss];
  }

  /** The sum of -log p(target) over the batch, forward only. */
  loss(batch: TokenBatch): number {
    this.#forward(batch.ids);
    return this.#loss.run(this.#output, batch.targets, null);
  }

  /**
   * Forward and backward pass: fills the gradients of everything in `trainable`.
   * @param scale the gradients are those of scale * loss
   * @param accumulate whether they add to what their buffers hold
   * @returns the sum of -log p(target) over the batch
   */
  gradients(batch: TokenBatch, scale: number, accumulate: boolean): number {
    this.#forward(batch.ids);
    const loss = this.#loss.run(this.#output, batch.targets, { ref: this.#gradient.at(0), scale });
    if (this.#firstBlock < 0) return loss;
    for (let layer = this.#weights.config.layers - 1; layer >= this.#firstBlock; layer--) {
      this.#blockBackward(layer, accumulate);
    }
    return loss;
  }

  #state(layer: number): Ref {
    return this.#states.at(layer * this.#blockFloats * 4);
  }

  get #output(): Ref {
    return this.#state(this.#weights.config.layers);
  }

  #forward(ids: Int32Array): void {
    const { config, embedding, blocks } = this.#weights;
    const ops = this.#ops;
    this.#ids.upload(ids);
    ops.begin(false);
    copyTensor(this.#context, ops.embedding(embedding).ref, this.#state(0), this.#blockFloats);
    for (const [layer, block] of blocks.entries()) {
      ops.begin(false);
      const y = decoderBlock(ops, config, block, layer, ops.input(this.#state(layer)));
      copyTensor(this.#context, y.ref, this.#state(layer + 1), this.#blockFloats);
    }
  }

  /** From the gradient of the block's output to that of its input. */
  #blockBackward(layer: number, accumulate: boolean): void {
    const { config, blocks } = this.#weights;
    const ops = this.#ops;
    const further = layer > this.#firstBlock;
    ops.begin(true);
    const x = ops.input(this.#state(layer), further);
    const y = decoderBlock(ops, config, blocks[layer], layer, x);
    ops.backward(y, { ref: this.#gradient.at(0), dtype: "f32", shape: y.shape }, accumulate);
    if (further) this.#keepGradient(ops.gradientOf(x).ref);
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
