/**
 * Final norm and head of the rows whose logits are wanted, and those a chunk at a time: logits [rows, vocab] never exist as a
 * whole, and a row that nothing is asked of costs nothing.
 */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { type Compute, matmul } from "../ops/matmul.ts";
import type { TrainableNorm } from "../ops/training.ts";
import { TrainingWeights } from "../ops/training_weights.ts";
import { Arena } from "../tensor.ts";

/** 32 MiB of logits. */
const CHUNK_VALUES = 8 << 20;

/** A row's index, and its place in the gradients of its chunk. */
const ROW_BYTES = 8;

/** Some of the wanted rows. */
export interface Chunk {
  /** Of the wanted rows: the first, and how many. */
  readonly first: number;
  readonly count: number;
  /** Of all rows: those whose gradient the chunk writes. Together the chunks write all. */
  readonly begin: number;
  readonly end: number;
}

/** Rows of a chunk. */
export function chunkRows({ vocabSize }: DecoderConfig, rows: number, values = CHUNK_VALUES): number {
  return Math.max(1, Math.min(rows, Math.floor(values / vocabSize)));
}

/** Rows before and behind the final norm, and logits. */
function chunkShapes({ vocabSize, hiddenSize }: DecoderConfig, chunk: number) {
  return [[chunk, hiddenSize] as const, [chunk + 1, hiddenSize] as const, [chunk, vocabSize] as const];
}

/** Device memory, without the buffer that the head is dequantised into. */
export function chunkedHeadBytes(config: DecoderConfig, rows: number, values = CHUNK_VALUES): number {
  const shapes = chunkShapes(config, chunkRows(config, rows, values));
  return shapes.reduce((sum, [n, width]) => sum + Math.ceil((n * width * 4) / 64) * 64, 0) + rows * ROW_BYTES;
}

export class ChunkedHead implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  readonly #rows: number;
  readonly #finalNorm: TrainableNorm;
  readonly #compute: Compute;
  /** Most rows of a chunk. */
  readonly chunk: number;
  /** int32: the wanted rows' indices [rows], then each row's place in the gradients of its chunk [rows] */
  readonly #places: DeviceBuffer;
  readonly #x: Ref;
  /** float32 [chunk + 1, hidden]: behind the final norm; then the rows' gradients, the last row zero */
  readonly #normed: Ref;
  /** float32 [chunk, vocab] */
  readonly #logits: Ref;
  readonly #widened: TrainingWeights;
  readonly #owned: Disposable[];

  /**
   * @param rows of hidden states that there are
   * @param finalNorm how the final norm runs
   * @param compute how the head multiplies
   * @param values logits that are held at once
   */
  constructor(
    context: Context,
    weights: DecoderWeights,
    rows: number,
    finalNorm: TrainableNorm = { value: weights.finalNorm.weight, gradient: null },
    compute: Compute = "f32",
    values = CHUNK_VALUES,
  ) {
    const { config } = weights;
    this.#context = context;
    this.#weights = weights;
    this.#rows = rows;
    this.#finalNorm = finalNorm;
    this.#compute = compute;
    this.chunk = chunkRows(config, rows, values);
    this.#places = context.alloc(rows * ROW_BYTES);
    const buffer = context.alloc(chunkedHeadBytes(config, rows, values) - rows * ROW_BYTES);
    const arena = new Arena(buffer);
    [this.#x, this.#normed, this.#logits] = chunkShapes(config, this.chunk).map((shape) => arena.take(shape).ref);
    this.#widened = new TrainingWeights(context, config);
    this.#owned = [this.#places, buffer, this.#widened];
  }

  /** Cuts the wanted rows, which ascend, into chunks of about one size; `logits` and `backward` take these, in order. */
  begin(wanted: readonly number[]): readonly Chunk[] {
    const chunks = Math.ceil(wanted.length / this.chunk);
    const size = Math.ceil(wanted.length / chunks);
    const places = new Int32Array(2 * this.#rows);
    places.set(wanted);
    // The gradient of a row that is not wanted is the chunk's last row, which is zero.
    const inChunk = places.subarray(this.#rows).fill(this.chunk);
    for (const [i, row] of wanted.entries()) inChunk[row] = i % size;
    this.#places.upload(places);
    return Array.from({ length: chunks }, (_, i) => {
      const first = i * size;
      const next = Math.min(first + size, wanted.length);
      const begin = i === 0 ? 0 : wanted[first];
      return { first, count: next - first, begin, end: wanted[next] ?? this.#rows };
    });
  }

  /**
   * @param hidden float32 [rows, hidden], the last block's output
   * @returns float32 [chunk.count, vocab], valid until the next chunk
   */
  logits(hidden: Ref, { first, count: rows }: Chunk): Ref {
    const { config, head } = this.#weights;
    const { vocabSize: ldc, hiddenSize: cols, rmsNormEps: eps } = config;
    const context = this.#context;
    const [x, y] = [this.#x, this.#normed];
    context.embedding({ table: rowsOf(hidden, this.#rows, cols), ids: this.#places.at(first * 4), y: x, rows });
    context.rmsNorm({ x, weight: this.#finalNorm.value, y, xStride: cols, yStride: cols, rows, cols, eps });
    this.#widened.visit(head.weight, (b, token, n) => {
      const c = floatsFrom(this.#logits, token);
      matmul(context, { a: y, b, c, m: rows, n, k: cols, transposeB: true, ldc }, this.#compute);
    });
    return this.#logits;
  }

  /**
   * From the gradient of a chunk's logits, which lies where the logits were, to that of the hidden states.
   * @param target float32 [rows, hidden], of which the chunk writes its rows
   * @param add whether the final norm's gradient adds to what its buffer holds
   */
  backward({ first, count: rows, begin, end }: Chunk, target: Ref, add: boolean): void {
    const { config, head } = this.#weights;
    const { vocabSize: lda, hiddenSize: cols, rmsNormEps: eps } = config;
    const context = this.#context;
    const [x, dy] = [this.#x, this.#normed];
    const { value: weight, gradient: dweight } = this.#finalNorm;
    this.#widened.visit(head.weight, (b, token, k) => {
      const a = floatsFrom(this.#logits, token);
      matmul(context, { a, b, c: dy, m: rows, n: cols, k, lda, add: token > 0 }, this.#compute);
    });
    const accumulate = add || first > 0 ? 1 : 0;
    if (dweight) context.rmsNormWeightBackward({ x, dy, dweight, rows, cols, eps, accumulate });
    context.rmsNormBackward({ x, weight, dy, dx: dy, rows, cols, eps, accumulate: 0 });
    const table = rowsOf(dy, this.chunk + 1, cols);
    const y = floatsFrom(target, begin * cols);
    context.embedding({ table, ids: this.#places.at((this.#rows + begin) * 4), y, rows: end - begin });
  }

  /** `backward` where no row is wanted: zeros. */
  noGradient(target: Ref, add: boolean): void {
    const { hiddenSize } = this.#weights.config;
    target.buffer.upload(new Float32Array(this.#rows * hiddenSize), target.offset);
    const { gradient } = this.#finalNorm;
    if (gradient && !add) gradient.buffer.upload(new Float32Array(hiddenSize), gradient.offset);
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}

/** float32 [rows, cols] as a table whose rows are looked up. */
function rowsOf(data: Ref, rows: number, cols: number): Weight {
  const shape = { outFeatures: rows, inFeatures: cols };
  return { data, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, ...shape };
}

/** The float32 `elements` further. */
function floatsFrom(ref: Ref, elements: number): Ref {
  return { buffer: ref.buffer, offset: ref.offset + elements * 4 };
}
