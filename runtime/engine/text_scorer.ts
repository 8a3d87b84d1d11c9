/** Logits of given texts, for `eval`: whole texts, or several continuations of one beginning that is computed once. */
import { type Context, type DeviceBuffer, F32, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import { decoderHidden, decoderLogits } from "../models/decoder.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { type InferenceOps, KV_BLOCK_SIZE } from "../ops/inference.ts";
import type { Arena, Tensor } from "../tensor.ts";
import type { BatchInputs } from "./batch_inputs.ts";

/** Rows whose logits are computed at once. */
export const SCORE_ROWS = 32;

export interface ScorerParts {
  context: Context;
  weights: DecoderWeights;
  ops: InferenceOps;
  /** Where `ops` puts its results. */
  arena: Arena;
  inputs: BatchInputs;
  maxRows: number;
  maxSequences: number;
  contextLength: number;
  kvBlocks: number;
  /** The scorer is about to write over all block tables and blocks of the cache. */
  takeOver: () => void;
}

/** float32 logits [rows, vocab] of the wanted positions first .. first+rows-1, counted in the order in which they were asked. */
export interface LogitChunk {
  readonly logits: Ref;
  readonly first: number;
  readonly rows: number;
}

/** One token on its way through the model. */
interface Row {
  readonly token: number;
  readonly position: number;
  readonly seat: number;
  /** Its logits are asked for. */
  readonly wanted: boolean;
}

/** A chunk's logits are valid until the next one is asked for. Nothing else may run on the model meanwhile. */
export class TextScorer implements Disposable {
  readonly #parts: ScorerParts;
  readonly #wantedRows: DeviceBuffer;

  constructor(parts: ScorerParts) {
    this.#parts = parts;
    this.#wantedRows = parts.context.alloc(parts.maxRows * 4);
  }

  /** The logits after every token of a text. */
  *text(tokens: readonly number[], adapterSlot: number): Generator<LogitChunk, void, void> {
    this.#start(tokens.length);
    this.#parts.inputs.setBlocks(0, 0, range(0, blocksFor(tokens.length)));
    yield* this.#run(
      tokens.map((token, position) => ({ token, position, seat: 0, wanted: true })),
      adapterSlot,
    );
  }

  /**
   * The logits that predict each token of each branch, given `beginning` and the branch before it: branch after branch, as one
   * list. Full blocks of the beginning are computed once. Every bit is as if each branch were scored alone.
   * @param beginning at least one token
   * @param branches each at least one token
   */
  *branches(
    beginning: readonly number[],
    branches: readonly (readonly number[])[],
    adapterSlot: number,
  ): Generator<LogitChunk, void, void> {
    const { inputs, kvBlocks, maxSequences } = this.#parts;
    const longest = Math.max(0, ...branches.map((branch) => branch.length));
    this.#start(beginning.length + longest - 1);
    const shared = blocksFor(beginning.length) - 1;
    inputs.setBlocks(0, 0, range(0, shared));
    const start = shared * KV_BLOCK_SIZE;
    const common = beginning.slice(0, start);
    yield* this.#run(
      common.map((token, position) => ({ token, position, seat: 0, wanted: false })),
      adapterSlot,
    );
    const from = beginning.length - 1;
    let first = 0;
    for (let begin = 0; begin < branches.length; ) {
      const rows: Row[] = [];
      let wanted = 0;
      let usedBlocks = shared;
      let seat = 0;
      for (; begin < branches.length && seat < maxSequences; begin++, seat++) {
        const tokens = [...beginning, ...branches[begin].slice(0, -1)];
        const own = blocksFor(tokens.length) - shared;
        if (usedBlocks + own > kvBlocks) break;
        inputs.setBlocks(seat, 0, [...range(0, shared), ...range(usedBlocks, usedBlocks + own)]);
        usedBlocks += own;
        wanted += branches[begin].length;
        for (let at = start; at < tokens.length; at++) {
          rows.push({ token: tokens[at], position: at, seat, wanted: at >= from });
        }
      }
      for (const chunk of this.#run(rows, adapterSlot)) yield { ...chunk, first: first + chunk.first };
      first += wanted;
    }
  }

  #start(tokens: number): void {
    const { contextLength, kvBlocks } = this.#parts;
    const capacity = Math.min(contextLength, kvBlocks * KV_BLOCK_SIZE);
    if (tokens > capacity) {
      throw new Error(`Cannot score a text: received ${tokens} tokens, expected at most ${capacity}`);
    }
    this.#parts.takeOver();
  }

  /** Runs rows, of any sequences, that come in the order of their positions. */
  *#run(rows: readonly Row[], adapterSlot: number): Generator<LogitChunk, void, void> {
    const { context, weights, ops, arena, inputs, maxRows } = this.#parts;
    const { vocabSize } = weights.config;
    const bad = rows.find(({ token }) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
    if (bad) throw new Error(`Cannot score a text: received token ${bad.token}, expected ids below ${vocabSize}`);
    let first = 0;
    for (let begin = 0; begin < rows.length; begin += maxRows) {
      const pass = rows.slice(begin, begin + maxRows);
      inputs.clear();
      for (const { token, position, seat } of pass) inputs.addRow(token, position, seat, adapterSlot);
      inputs.upload();
      const wanted = Int32Array.from(pass.flatMap((row, index) => (row.wanted ? [index] : [])));
      if (wanted.length > 0) this.#wantedRows.upload(wanted);
      ops.begin(pass.length);
      const hidden = decoderHidden(ops, weights);
      for (let row = 0; row < wanted.length; row += SCORE_ROWS) {
        const count = Math.min(SCORE_ROWS, wanted.length - row);
        const mark = arena.mark();
        const chosen = ops.gather(asTable(hidden), this.#wantedRows.at(row * 4), count);
        yield { logits: decoderLogits(ops, weights, chosen).ref, first: first + row, rows: count };
        arena.reset(mark);
      }
      first += wanted.length;
    }
    context.synchronize();
  }

  [Symbol.dispose](): void {
    this.#wantedRows[Symbol.dispose]();
  }
}

/** Activations [rows, cols] as a table to gather rows from. */
export function asTable(x: Tensor): Weight {
  const [outFeatures, inFeatures] = x.shape;
  return { data: x.ref, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures };
}

function blocksFor(tokens: number): number {
  return Math.ceil(tokens / KV_BLOCK_SIZE);
}

function range(begin: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - begin) }, (_, i) => begin + i);
}
