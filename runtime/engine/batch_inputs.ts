/**
 * What the ops of a step read about its rows, gathered on the host and sent in one upload. Everything a recorded graph refers to
 * has its fixed place here:
 *
 *   ids | positions | sequences | lora slots (2 a row) | logit rows | sampling parameters
 */
import {
  type Context,
  type DeviceBuffer,
  encodeArray,
  type Ref,
  type SampleParams,
  structBytes,
  type TokenBias,
} from "../../ffi/mod.ts";
import type { Batch } from "../ops/inference.ts";
import { GREEDY, type SamplingParams } from "./protocol.ts";

const PARAMS_BYTES = structBytes("apiq_sample_params");
const BIAS_BYTES = structBytes("apiq_token_bias");

function align(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

/** Where one row's sampling parameters point. */
export interface SampleRow {
  params: SamplingParams;
  /** Tokens before the one to be drawn. */
  position: number;
  /** Row of the history, or -1 when no penalty needs it. */
  historyRow: number;
  promptTokens: number;
  historyTokens: number;
  maxTop: number;
}

export interface BatchShape {
  maxRows: number;
  maxSequences: number;
  maxBlocks: number;
  /** The slot of the calibrated LoRA in rows of an adapter's slot. */
  calibratedSlot: (adapterSlot: number) => number;
}

export class BatchInputs implements Disposable {
  readonly #shape: BatchShape;
  readonly #device: DeviceBuffer;
  readonly #tables: DeviceBuffer;
  readonly #bias: DeviceBuffer;
  readonly #biasCapacity: number;
  readonly #host: ArrayBuffer;
  readonly #ids: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequences: Int32Array;
  readonly #slots: Int32Array;
  readonly #logitRows: Int32Array;
  readonly #samples: SampleParams[] = [];
  readonly #biases: TokenBias[] = [];
  readonly #sections: {
    ids: number;
    positions: number;
    sequences: number;
    slots: number;
    logitRows: number;
    params: number;
  };
  #rows = 0;

  /** @param biasPerSequence how many logit biases a request may carry */
  constructor(context: Context, shape: BatchShape, biasPerSequence: number) {
    const { maxRows, maxSequences, maxBlocks } = shape;
    this.#shape = shape;
    let used = 0;
    const section = (bytes: number): number => {
      const at = used;
      used += align(bytes);
      return at;
    };
    this.#sections = {
      ids: section(maxRows * 4),
      positions: section(maxRows * 4),
      sequences: section(maxRows * 4),
      slots: section(maxRows * 8),
      logitRows: section(maxSequences * 4),
      params: section(maxSequences * PARAMS_BYTES),
    };
    this.#host = new ArrayBuffer(used);
    this.#ids = new Int32Array(this.#host, this.#sections.ids, maxRows);
    this.#positions = new Int32Array(this.#host, this.#sections.positions, maxRows);
    this.#sequences = new Int32Array(this.#host, this.#sections.sequences, maxRows);
    this.#slots = new Int32Array(this.#host, this.#sections.slots, 2 * maxRows);
    this.#logitRows = new Int32Array(this.#host, this.#sections.logitRows, maxSequences);
    this.#device = context.alloc(used);
    this.#tables = context.alloc(maxSequences * maxBlocks * 4);
    this.#biasCapacity = maxSequences * biasPerSequence;
    this.#bias = context.alloc(this.#biasCapacity * BIAS_BYTES);
  }

  get batch(): Batch {
    return {
      ids: this.#device.at(this.#sections.ids),
      positions: this.#device.at(this.#sections.positions),
      sequences: this.#device.at(this.#sections.sequences),
      loraSlots: this.#device.at(this.#sections.slots),
      blockTables: this.#tables.at(0),
      maxSequences: this.#shape.maxSequences,
      maxBlocks: this.#shape.maxBlocks,
    };
  }

  get logitRows(): Ref {
    return this.#device.at(this.#sections.logitRows);
  }

  get params(): Ref {
    return this.#device.at(this.#sections.params);
  }

  get bias(): Ref {
    return this.#bias.at(0);
  }

  get biasCapacity(): number {
    return this.#biasCapacity;
  }

  get rows(): number {
    return this.#rows;
  }

  clear(): void {
    this.#rows = 0;
    this.#samples.length = 0;
    this.#biases.length = 0;
  }

  /** Adds one token of a sequence; returns its row. */
  addRow(token: number, position: number, seat: number, adapterSlot: number): number {
    const row = this.#rows++;
    this.#ids[row] = token;
    this.#positions[row] = position;
    this.#sequences[row] = seat;
    this.#slots[2 * row] = seat < 0 ? -1 : this.#shape.calibratedSlot(adapterSlot);
    this.#slots[2 * row + 1] = adapterSlot;
    return row;
  }

  /** Adds rows that belong to nothing until there are `rows`: a recorded graph has a fixed number. */
  pad(rows: number): void {
    while (this.#rows < rows) this.addRow(0, 0, -1, -1);
    while (this.#samples.length < rows) this.addSample(this.#samples.length, PADDING);
  }

  /** Asks for a token to be drawn after `row`. */
  addSample(row: number, sample: SampleRow): void {
    const { params } = sample;
    this.#logitRows[this.#samples.length] = row;
    const biasFirst = this.#biases.length;
    for (const [token, bias] of params.logitBias) this.#biases.push({ token, bias });
    this.#samples.push({
      seed: params.seed,
      position: sample.position,
      temperature: params.temperature,
      topP: params.topP,
      minP: params.minP,
      topK: params.topK,
      repetitionPenalty: params.repetitionPenalty,
      presencePenalty: params.presencePenalty,
      frequencyPenalty: params.frequencyPenalty,
      historyRow: sample.historyRow,
      promptTokens: sample.promptTokens,
      historyTokens: sample.historyTokens,
      biasFirst,
      biasCount: params.logitBias.length,
      maskRow: -1,
      nTop: Math.min(params.logprobs ?? 0, sample.maxTop),
    });
  }

  /** The sample at `index` is constrained by the mask row of the same number. */
  setMask(index: number): void {
    this.#samples[index] = { ...this.#samples[index], maskRow: index };
  }

  /** Tells the device which blocks hold positions from block `first` on of the sequence at `seat`. */
  setBlocks(seat: number, first: number, blocks: readonly number[]): void {
    if (blocks.length === 0) return;
    this.#tables.upload(Int32Array.from(blocks), (seat * this.#shape.maxBlocks + first) * 4);
  }

  upload(): void {
    new Uint8Array(this.#host, this.#sections.params).set(encodeArray("apiq_sample_params", this.#samples));
    this.#device.upload(new Uint8Array(this.#host));
    if (this.#biases.length > 0) this.#bias.upload(encodeArray("apiq_token_bias", this.#biases));
  }

  [Symbol.dispose](): void {
    this.#bias[Symbol.dispose]();
    this.#tables[Symbol.dispose]();
    this.#device[Symbol.dispose]();
  }
}

/** What a padding row draws: nobody looks. */
const PADDING: SampleRow = {
  params: GREEDY,
  position: 0,
  historyRow: -1,
  promptTokens: 0,
  historyTokens: 0,
  maxTop: 0,
};
