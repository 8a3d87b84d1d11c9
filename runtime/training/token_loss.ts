/** Loss of hidden states: final norm, head, and cross-entropy or distillation (objective.ts), in chunks of rows. */
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { DecoderWeights } from "../models/weights.ts";
import type { Compute, TrainableNorm } from "../ops/training.ts";
import { type Chunk, ChunkedHead, chunkedHeadBytes, chunkRows } from "./chunked_head.ts";
import {
  checkObjective,
  type Distillation,
  FINE_TUNING,
  type LossSums,
  type Objective,
  type RowTargets,
  rowsWithTarget,
  type TeacherTokens,
} from "./objective.ts";

export interface TokenLossOptions {
  readonly context: Context;
  readonly weights: DecoderWeights;
  /** Of hidden states that `run` is given. */
  readonly rows: number;
  /** Cross-entropy unless given. */
  readonly objective?: Objective;
  /** How the final norm runs where it trains. */
  readonly finalNorm?: TrainableNorm;
  /** How the head multiplies; float32 unless given. */
  readonly compute?: Compute;
  /** Logits that are held at once. */
  readonly values?: number;
}

export interface TokenLossGradient {
  /** float32 [rows, hidden], overwritten by the gradient of scale * loss */
  readonly ref: Ref;
  readonly scale: number;
  /** Whether the final norm's gradient adds to what its buffer holds. */
  readonly accumulate?: boolean;
}

/** Of a row that has a target: the target, -log p and the divergence. */
const ROW_BYTES = 12;

/** The teacher's tokens of a chunk, ids and log-probabilities. */
function teacherBytes(objective: Objective, chunk: number): number {
  return objective.kind === "distill" ? chunk * objective.topK * 8 : 0;
}

/** Device memory of a chunk and of what is known of each row. */
export function tokenLossBytes(
  config: DecoderConfig,
  rows: number,
  objective: Objective = FINE_TUNING,
  values?: number,
): number {
  const teacher = teacherBytes(objective, chunkRows(config, rows, values));
  return chunkedHeadBytes(config, rows, values) + teacher + rows * ROW_BYTES;
}

export class TokenLoss implements Disposable {
  readonly #context: Context;
  readonly #vocab: number;
  readonly #rows: number;
  readonly #objective: Objective;
  readonly #head: ChunkedHead;
  /** Of the rows that have a target: int32 targets [rows], float32 -log p [rows], float32 divergences [rows] */
  readonly #table: DeviceBuffer;
  /** int32 ids [chunk, topK], then float32 log-probabilities [chunk, topK]; null without a teacher */
  readonly #teacher: DeviceBuffer | null;

  constructor(options: TokenLossOptions) {
    const { context, weights, rows, objective = FINE_TUNING, finalNorm, compute, values } = options;
    checkObjective(objective, weights.config.vocabSize);
    this.#context = context;
    this.#vocab = weights.config.vocabSize;
    this.#rows = rows;
    this.#objective = objective;
    this.#head = new ChunkedHead(context, weights, rows, finalNorm, compute, values);
    this.#table = context.alloc(rows * ROW_BYTES);
    this.#teacher = objective.kind === "distill" ? context.alloc(teacherBytes(objective, this.#head.chunk)) : null;
  }

  /**
   * @param hidden float32 [rows, hidden], the last block's output
   * @returns sums over the rows that have a target; waits for them
   */
  run(hidden: Ref, batch: RowTargets, gradient: TokenLossGradient | null): LossSums {
    const objective = this.#objective;
    const rows = rowsWithTarget(batch.targets);
    this.#table.upload(Int32Array.from(rows, (row) => batch.targets[row]));
    for (const chunk of this.#head.begin(rows)) {
      const logits = this.#head.logits(hidden, chunk);
      if (objective.kind === "sft") this.#crossEntropy(logits, chunk, gradient);
      else
        this.#distil(logits, chunk, objective, this.#putTeacher(batch.teacher, rows, chunk, objective.topK), gradient);
      if (gradient) this.#head.backward(chunk, gradient.ref, gradient.accumulate ?? false);
    }
    if (gradient && rows.length === 0) this.#head.noGradient(gradient.ref, gradient.accumulate ?? false);
    const sum = (part: number): number =>
      this.#table.download(new Float32Array(rows.length), part * this.#rows * 4).reduce((total, x) => total + x, 0);
    const nll = sum(1);
    if (objective.kind === "sft") return { sum: nll, nll, kl: 0 };
    const kl = sum(2);
    const { temperature, mix } = objective;
    return { sum: (1 - mix) * temperature ** 2 * kl + mix * nll, nll, kl };
  }

  /** Where part 0 (targets), 1 (-log p) or 2 (divergences) of a chunk's rows lies. */
  #at(part: number, { first }: Chunk): Ref {
    return this.#table.at((part * this.#rows + first) * 4);
  }

  /** Logits become their gradient. */
  #crossEntropy(logits: Ref, chunk: Chunk, gradient: TokenLossGradient | null): void {
    const of = { logits, targets: this.#at(0, chunk), rows: chunk.count, vocab: this.#vocab };
    this.#context.tokenNll({ ...of, nll: this.#at(1, chunk) });
    if (gradient) this.#context.tokenNllBackward({ ...of, grad: logits, scale: gradient.scale });
  }

  #distil(
    logits: Ref,
    chunk: Chunk,
    { temperature, mix, topK: k }: Distillation,
    teacher: { readonly ids: Ref; readonly logProbs: Ref },
    gradient: TokenLossGradient | null,
  ): void {
    const of = { logits, targets: this.#at(0, chunk), rows: chunk.count, vocab: this.#vocab };
    const known = { ...of, ...teacher, k, temperature };
    this.#context.tokenNll({ ...of, nll: this.#at(1, chunk) });
    this.#context.teacherKl({ ...known, kl: this.#at(2, chunk) });
    if (!gradient) return;
    const klScale = gradient.scale * (1 - mix) * temperature ** 2;
    this.#context.teacherKlBackward({ ...known, grad: logits, klScale, nllScale: gradient.scale * mix });
  }

  /** Uploads the teacher's tokens of a chunk's rows. */
  #putTeacher(tokens: TeacherTokens | undefined, rows: readonly number[], { first, count }: Chunk, topK: number) {
    for (const given of [tokens?.ids, tokens?.logProbabilities]) {
      if (given?.length === this.#rows * topK) continue;
      const received = given ? `${given.length} values` : "none";
      throw new Error(`Cannot distil: received ${received} of the teacher's tokens, expected ${this.#rows} x ${topK}`);
    }
    const { ids, logProbabilities } = tokens as TeacherTokens;
    const buffer = this.#teacher as DeviceBuffer;
    const [ofIds, ofLogProbs] = [buffer.at(0), buffer.at(this.#head.chunk * topK * 4)];
    const chosen = <T extends Int32Array | Float32Array>(from: T, to: T): T => {
      for (let i = 0; i < count; i++) {
        const at = rows[first + i] * topK;
        to.set(from.subarray(at, at + topK), i * topK);
      }
      return to;
    };
    buffer.upload(chosen(ids, new Int32Array(count * topK)), ofIds.offset);
    buffer.upload(chosen(logProbabilities, new Float32Array(count * topK)), ofLogProbs.offset);
    return { ids: ofIds, logProbs: ofLogProbs };
  }

  [Symbol.dispose](): void {
    this.#teacher?.[Symbol.dispose]();
    this.#table[Symbol.dispose]();
    this.#head[Symbol.dispose]();
  }
}
