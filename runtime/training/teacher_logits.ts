/** What a teacher predicts: its most likely tokens for every row of a batch that has a target. */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderHidden } from "../models/decoder.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { type Compute, TrainingOps, trainingArenaBytes } from "../ops/training.ts";
import { Arena } from "../tensor.ts";
import { ChunkedHead, chunkedHeadBytes, chunkRows } from "./chunked_head.ts";
import type { TokenBatch } from "./model_trainer.ts";
import { checkObjective, type Distillation, rowsWithTarget, type TeacherTokens } from "./objective.ts";

export interface TeacherOptions {
  readonly context: Context;
  /** The teacher's. */
  readonly weights: DecoderWeights;
  readonly sequences: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** Whose temperature and topK the tokens are for. */
  readonly objective: Distillation;
  /** How linears and the head multiply; float32 unless given. */
  readonly compute?: Compute;
}

/** Of the arena: one block's forward pass, and the hidden states that it starts from. */
function arenaBytes(config: DecoderConfig, sequences: number, length: number): number {
  const states = Math.ceil((sequences * length * config.hiddenSize * 4) / 64) * 64;
  return states + trainingArenaBytes(config, sequences, length, false);
}

/** Device memory besides the weights. */
export function teacherLogitsBytes(
  config: DecoderConfig,
  { sequences, length, objective }: Pick<TeacherOptions, "sequences" | "length" | "objective">,
): number {
  const rows = sequences * length;
  const tokens = chunkRows(config, rows) * objective.topK * 8;
  return arenaBytes(config, sequences, length) + chunkedHeadBytes(config, rows) + tokens + rows * 4;
}

export class TeacherLogits implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  readonly #objective: Distillation;
  readonly #rows: number;
  readonly #ids: DeviceBuffer;
  readonly #ops: TrainingOps;
  readonly #head: ChunkedHead;
  /** int32 ids [chunk, topK], then float32 log-probabilities [chunk, topK] */
  readonly #tokens: DeviceBuffer;
  readonly #owned: Disposable[];

  constructor({ context, weights, sequences, length, objective, compute = "f32" }: TeacherOptions) {
    const { config, inverseFrequencies } = weights;
    checkObjective(objective, config.vocabSize);
    this.#context = context;
    this.#weights = weights;
    this.#objective = objective;
    this.#rows = sequences * length;
    this.#ids = context.alloc(this.#rows * 4);
    const buffer = context.alloc(arenaBytes(config, sequences, length));
    const ids = this.#ids.at(0);
    const arena = new Arena(buffer);
    this.#ops = new TrainingOps({ context, config, arena, sequences, length, inverseFrequencies, ids, compute });
    this.#head = new ChunkedHead(context, weights, this.#rows, undefined, compute);
    this.#tokens = context.alloc(this.#head.chunk * objective.topK * 8);
    this.#owned = [this.#ids, buffer, this.#ops, this.#head, this.#tokens];
  }

  /** One forward pass; waits for it. Rows without a target hold zeros. */
  read({ ids, targets, positions, rowStart }: Omit<TokenBatch, "teacher">): TeacherTokens {
    const { topK } = this.#objective;
    const rows = rowsWithTarget(targets);
    const result = { ids: new Int32Array(this.#rows * topK), logProbabilities: new Float32Array(this.#rows * topK) };
    this.#ids.upload(ids);
    this.#ops.place(positions, rowStart);
    this.#ops.begin(false);
    const hidden = decoderHidden(this.#ops, this.#weights);
    for (const chunk of this.#head.begin(rows)) {
      const found = this.#top(this.#head.logits(hidden.ref, chunk), chunk.count);
      for (let i = 0; i < chunk.count; i++) {
        const at = rows[chunk.first + i] * topK;
        result.ids.set(found.ids.subarray(i * topK, (i + 1) * topK), at);
        result.logProbabilities.set(found.logProbabilities.subarray(i * topK, (i + 1) * topK), at);
      }
    }
    return result;
  }

  /** Of the rows of a chunk. */
  #top(logits: Ref, rows: number): TeacherTokens {
    const { topK: k, temperature } = this.#objective;
    const ids = this.#tokens.at(0);
    const logProbs = this.#tokens.at(this.#head.chunk * k * 4);
    const vocab = this.#weights.config.vocabSize;
    this.#context.topLogProbs({ logits, ids, logProbs, rows, vocab, k, temperature });
    return {
      ids: ids.buffer.download(new Int32Array(rows * k), ids.offset),
      logProbabilities: logProbs.buffer.download(new Float32Array(rows * k), logProbs.offset),
    };
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}
