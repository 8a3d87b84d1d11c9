/**
 * Next-token loss of hidden states: final norm, head and cross-entropy. Rows go through in chunks, so that logits [rows, vocab]
 * never exist as a whole.
 */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { matmul } from "../ops/matmul.ts";
import { TrainingWeights } from "../ops/training_weights.ts";
import { Arena } from "../tensor.ts";

/** 32 MiB of logits. */
const CHUNK_VALUES = 8 << 20;

export interface TokenLossGradient {
  /** float32 [rows, hidden], overwritten by the gradient of scale * loss */
  readonly ref: Ref;
  readonly scale: number;
}

/** Rows of a chunk. */
function chunkRows({ vocabSize }: DecoderConfig, rows: number, values: number): number {
  return Math.max(1, Math.min(rows, Math.floor(values / vocabSize)));
}

/** Device memory of a chunk and the tokens. */
export function tokenLossBytes(config: DecoderConfig, rows: number, values = CHUNK_VALUES): number {
  const { vocabSize, hiddenSize } = config;
  return chunkRows(config, rows, values) * (vocabSize + hiddenSize) * 4 + rows * 8;
}

export class TokenLoss implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  readonly #rows: number;
  readonly #chunk: number;
  /** int32 targets [rows], then float32 losses [rows] */
  readonly #tokens: DeviceBuffer;
  /** What one chunk takes: [chunk, hidden] before the head and [chunk, vocab] behind it. */
  readonly #arena: Arena;
  readonly #widened: TrainingWeights;
  readonly #owned: Disposable[];

  /**
   * @param rows of hidden states that `run` is given
   * @param values logits that are held at once
   */
  constructor(context: Context, weights: DecoderWeights, rows: number, values = CHUNK_VALUES) {
    const { vocabSize, hiddenSize } = weights.config;
    this.#context = context;
    this.#weights = weights;
    this.#rows = rows;
    this.#chunk = chunkRows(weights.config, rows, values);
    this.#tokens = context.alloc(rows * 8);
    const buffer = context.alloc(this.#chunk * (vocabSize + hiddenSize) * 4 + 128);
    this.#arena = new Arena(buffer);
    this.#widened = new TrainingWeights(context, weights.config);
    this.#owned = [this.#tokens, buffer, this.#widened];
  }

  /**
   * @param hidden float32 [rows, hidden], the last block's output
   * @param targets [rows], each row's next token; negative: the row has no part in the loss
   * @returns the sum of -log p(target) over the rows; waits for it
   */
  run(hidden: Ref, targets: Int32Array, gradient: TokenLossGradient | null): number {
    this.#tokens.upload(targets);
    for (let first = 0; first < this.#rows; first += this.#chunk) {
      this.#runChunk(hidden, first, Math.min(this.#chunk, this.#rows - first), gradient);
    }
    const losses = this.#tokens.download(new Float32Array(this.#rows), this.#rows * 4);
    return losses.reduce((sum, loss, row) => (targets[row] < 0 ? sum : sum + loss), 0);
  }

  #runChunk(hidden: Ref, first: number, rows: number, gradient: TokenLossGradient | null): void {
    const { config, finalNorm, head } = this.#weights;
    const { vocabSize: vocab, hiddenSize: cols, rmsNormEps: eps } = config;
    const context = this.#context;
    this.#arena.reset(0);
    const normed = this.#arena.take([rows, cols]).ref;
    const logits = this.#arena.take([rows, vocab]).ref;
    const x = floatsFrom(hidden, first * cols);
    const targets = this.#tokens.at(first * 4);
    context.rmsNorm({ x, weight: finalNorm.weight, y: normed, xStride: cols, yStride: cols, rows, cols, eps });
    this.#widened.visit(head.weight, (b, token, n) => {
      const c = floatsFrom(logits, token);
      matmul(context, { a: normed, b, c, m: rows, n, k: cols, transposeB: true, ldc: vocab });
    });
    context.tokenNll({ logits, targets, nll: this.#tokens.at((this.#rows + first) * 4), rows, vocab });
    if (!gradient) return;
    context.tokenNllBackward({ logits, targets, grad: logits, rows, vocab, scale: gradient.scale });
    this.#widened.visit(head.weight, (b, token, k) => {
      const a = floatsFrom(logits, token);
      matmul(context, { a, b, c: normed, m: rows, n: cols, k, lda: vocab, add: token > 0 });
    });
    const dx = floatsFrom(gradient.ref, first * cols);
    context.rmsNormBackward({ x, weight: finalNorm.weight, dy: normed, dx, rows, cols, eps, accumulate: 0 });
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}

/** The float32 `elements` further. */
function floatsFrom(ref: Ref, elements: number): Ref {
  return { buffer: ref.buffer, offset: ref.offset + elements * 4 };
}
