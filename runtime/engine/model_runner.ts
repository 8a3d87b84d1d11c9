/**
 * One pass of the model over the rows of a step. Steps that only decode replay a recorded graph (one for each power of two of
 * rows); steps with prompt rows launch op by op.
 */
import type { Context, DeviceBuffer, Graph, Ref } from "../../ffi/mod.ts";
import { decoderHidden, decoderLogits } from "../models/decoder.ts";
import type { LoraTable } from "../models/lora.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { InferenceOps, KV_BLOCK_SIZE, type KvCache } from "../ops/inference.ts";
import { Arena, type Tensor } from "../tensor.ts";
import { BatchInputs } from "./batch_inputs.ts";
import type { TokenLogprob } from "./protocol.ts";
import type { ScheduledRows } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import { asTable, SCORE_ROWS, TextScorer } from "./text_scorer.ts";

/** The most alternatives a request may ask for beside each token. */
export const MAX_TOP_LOGPROBS = 20;
/** The most logit biases a request may carry, as OpenAI's API allows. */
export const MAX_LOGIT_BIASES = 300;

export interface RunnerOptions {
  /** The most rows of one pass. */
  maxRows: number;
  maxSequences: number;
  contextLength: number;
  kvBlocks: number;
  kvDtype: "f16" | "f32";
  activations: "int8" | "f32";
}

/** Which tokens the sequences of a step may draw. Asked for before the forward pass, fetched after it. */
export interface StepMasks {
  /** @returns whether any of the sequences is constrained */
  request(drawing: readonly Sequence[]): boolean;
  /** uint32 [maxSequences, ceil(vocab / 32)]: row i is for sequence i, and means something only where that has a grammar. */
  collect(drawing: readonly Sequence[]): Uint32Array;
}

export interface DrawnToken {
  readonly sequence: Sequence;
  readonly token: number;
  readonly logprob: TokenLogprob | undefined;
}

export class ModelRunner implements Disposable {
  readonly #context: Context;
  readonly #weights: DecoderWeights;
  readonly #options: RunnerOptions;
  readonly #ops: InferenceOps;
  readonly #inputs: BatchInputs;
  readonly #kvBuffer: DeviceBuffer;
  readonly #workspace: DeviceBuffer;
  readonly #history: DeviceBuffer;
  readonly #results: Results;
  /** By rows: a whole decode step, and one that stops at the logits. */
  readonly #stepGraphs = new Map<number, Graph>();
  readonly #logitsGraphs = new Map<number, { graph: Graph; logits: Tensor }>();
  readonly #masks: DeviceBuffer;
  /** Logits of given texts. Not while sequences are running. */
  readonly scorer: TextScorer;
  /** By seat: whose block table and history the device has, and how many blocks of them. */
  readonly #seats: { sequence: Sequence | null; admission: number; blocks: number }[];

  constructor(context: Context, weights: DecoderWeights, lora: LoraTable | null, options: RunnerOptions) {
    const { config } = weights;
    const { maxRows, maxSequences, contextLength } = options;
    const maxBlocks = Math.ceil(contextLength / KV_BLOCK_SIZE);
    this.#context = context;
    this.#weights = weights;
    this.#options = options;
    const calibratedSlot = (adapterSlot: number): number => lora?.calibratedSlot(adapterSlot) ?? -1;
    this.#inputs = new BatchInputs(context, { maxRows, maxSequences, maxBlocks, calibratedSlot }, MAX_LOGIT_BIASES);
    const { buffer, kv } = allocateKv(context, weights, options);
    this.#kvBuffer = buffer;
    this.#workspace = context.alloc(workspaceBytes(weights, maxRows, Math.max(maxSequences, SCORE_ROWS)));
    this.#history = context.alloc(maxSequences * contextLength * 4);
    this.#masks = context.alloc(maxSequences * Math.ceil(config.vocabSize / 32) * 4);
    this.#results = new Results(context, Math.max(maxSequences, SCORE_ROWS));
    this.#seats = Array.from({ length: maxSequences }, () => ({ sequence: null, admission: 0, blocks: 0 }));
    const arena = new Arena(this.#workspace);
    this.#ops = new InferenceOps({
      context,
      config,
      arena,
      batch: this.#inputs.batch,
      kv,
      lora,
      inverseFrequencies: weights.inverseFrequencies,
      activations: options.activations,
    });
    this.scorer = new TextScorer({
      context,
      weights,
      ops: this.#ops,
      arena,
      inputs: this.#inputs,
      ...options,
      takeOver: () => this.#seats.fill({ sequence: null, admission: 0, blocks: 0 }),
    });
  }

  get kvBytes(): number {
    return this.#kvBuffer.bytes;
  }

  /** Runs the scheduled rows and draws a token for every sequence that they bring to its end. */
  run(scheduled: readonly ScheduledRows[], masks?: StepMasks): DrawnToken[] {
    const inputs = this.#inputs;
    inputs.clear();
    const drawing: Sequence[] = [];
    for (const { sequence, count } of scheduled) {
      this.#syncSeat(sequence);
      for (let i = 0; i < count; i++) {
        const position = sequence.computed + i;
        inputs.addRow(sequence.tokens[position], position, sequence.seat, sequence.adapterSlot);
      }
      if (count !== sequence.pending) continue;
      drawing.push(sequence);
      this.#addSample(sequence, inputs.rows - 1);
    }
    const constrained = masks?.request(drawing) ? masks : undefined;
    for (const [index, { request }] of drawing.entries()) if (request.grammar) inputs.setMask(index);
    if (drawing.length === inputs.rows) this.#decode(drawing, constrained);
    else this.#prefill(drawing, constrained);
    return this.#results.read(drawing);
  }

  #addSample(sequence: Sequence, row: number): void {
    const params = sequence.request.sampling;
    this.#inputs.addSample(row, {
      params,
      position: sequence.tokens.length,
      historyRow: usesHistory(sequence) ? sequence.seat : -1,
      promptTokens: sequence.promptTokens,
      historyTokens: sequence.tokens.length,
      maxTop: MAX_TOP_LOGPROBS,
    });
  }

  /** Brings the device's block table and token history of the sequence's seat up to date. */
  #syncSeat(sequence: Sequence): void {
    const known = this.#seats[sequence.seat];
    const isNew = known.sequence !== sequence || known.admission !== sequence.admissions;
    const firstBlock = isNew ? 0 : known.blocks;
    this.#inputs.setBlocks(sequence.seat, firstBlock, sequence.blocks.slice(firstBlock));
    this.#seats[sequence.seat] = { sequence, admission: sequence.admissions, blocks: sequence.blocks.length };
    if (!usesHistory(sequence)) return;
    const firstToken = isNew ? 0 : sequence.tokens.length - 1;
    const at = (sequence.seat * this.#options.contextLength + firstToken) * 4;
    this.#history.upload(Int32Array.from(sequence.tokens.slice(firstToken)), at);
  }

  /** All rows are the next token of a sequence: replays the graph for the next power of two of rows. */
  #decode(drawing: readonly Sequence[], masks: StepMasks | undefined): void {
    const rows = Math.min(2 ** Math.ceil(Math.log2(drawing.length)), this.#options.maxSequences);
    this.#inputs.pad(rows);
    this.#inputs.upload();
    if (masks) {
      const { graph, logits } = this.#logitsGraph(rows);
      graph.launch();
      this.#sample(logits, rows, masks.collect(drawing));
      return;
    }
    let graph = this.#stepGraphs.get(rows);
    if (!graph) {
      graph = this.#context.record(() => this.#sample(this.#logits(this.#hidden(rows)), rows));
      this.#stepGraphs.set(rows, graph);
    }
    graph.launch();
  }

  #logitsGraph(rows: number): { graph: Graph; logits: Tensor } {
    const known = this.#logitsGraphs.get(rows);
    if (known) return known;
    let logits: Tensor | undefined;
    const graph = this.#context.record(() => {
      logits = this.#logits(this.#hidden(rows));
    });
    const made = { graph, logits: logits as unknown as Tensor };
    this.#logitsGraphs.set(rows, made);
    return made;
  }

  #prefill(drawing: readonly Sequence[], masks: StepMasks | undefined): void {
    this.#inputs.upload();
    const hidden = this.#hidden(this.#inputs.rows);
    if (drawing.length === 0) return;
    const last = this.#ops.gather(asTable(hidden), this.#inputs.logitRows, drawing.length);
    this.#sample(this.#logits(last), drawing.length, masks?.collect(drawing));
  }

  #hidden(rows: number): Tensor {
    this.#ops.begin(rows);
    return decoderHidden(this.#ops, this.#weights);
  }

  #logits(hidden: Tensor): Tensor {
    return decoderLogits(this.#ops, this.#weights, hidden);
  }

  #sample(logits: Tensor, rows: number, masks?: Uint32Array): void {
    if (masks) this.#masks.upload(masks);
    this.#context.sample({
      logits: logits.ref,
      params: this.#inputs.params,
      history: this.#history.at(0),
      bias: this.#inputs.bias,
      masks: this.#masks.at(0),
      ...this.#results.refs,
      rows,
      vocab: this.#weights.config.vocabSize,
      historyRows: this.#options.maxSequences,
      historyCols: this.#options.contextLength,
      biasCapacity: this.#inputs.biasCapacity,
      maskRows: this.#options.maxSequences,
      maxTop: MAX_TOP_LOGPROBS,
    });
  }

  /**
   * Runs one whole text and shows the logits of all its positions, a few rows at a time. Nothing else may be running.
   * @param visit gets float32 logits [rows, vocab] that predict tokens first+1 .. first+rows
   */
  scoreText(
    tokens: readonly number[],
    adapterSlot: number,
    visit: (logits: Ref, first: number, rows: number) => void,
  ): void {
    for (const { logits, first, rows } of this.scorer.text(tokens, adapterSlot)) visit(logits, first, rows);
  }

  [Symbol.dispose](): void {
    for (const graph of this.#stepGraphs.values()) graph[Symbol.dispose]();
    for (const { graph } of this.#logitsGraphs.values()) graph[Symbol.dispose]();
    this.scorer[Symbol.dispose]();
    this.#masks[Symbol.dispose]();
    this.#results[Symbol.dispose]();
    this.#history[Symbol.dispose]();
    this.#workspace[Symbol.dispose]();
    this.#kvBuffer[Symbol.dispose]();
    this.#inputs[Symbol.dispose]();
  }
}

/** Where the sampler leaves what it drew. */
class Results implements Disposable {
  readonly #tokens: DeviceBuffer;
  readonly #logprobs: DeviceBuffer;
  readonly #topTokens: DeviceBuffer;
  readonly #topLogprobs: DeviceBuffer;

  constructor(context: Context, rows: number) {
    this.#tokens = context.alloc(rows * 4);
    this.#logprobs = context.alloc(rows * 4);
    this.#topTokens = context.alloc(rows * MAX_TOP_LOGPROBS * 4);
    this.#topLogprobs = context.alloc(rows * MAX_TOP_LOGPROBS * 4);
  }

  get refs(): { tokens: Ref; logprobs: Ref; topTokens: Ref; topLogprobs: Ref } {
    return {
      tokens: this.#tokens.at(0),
      logprobs: this.#logprobs.at(0),
      topTokens: this.#topTokens.at(0),
      topLogprobs: this.#topLogprobs.at(0),
    };
  }

  read(drawing: readonly Sequence[]): DrawnToken[] {
    if (drawing.length === 0) return [];
    const tokens = this.#tokens.download(new Int32Array(drawing.length));
    if (drawing.every(({ request }) => request.sampling.logprobs === undefined)) {
      return drawing.map((sequence, i) => ({ sequence, token: tokens[i], logprob: undefined }));
    }
    const logprobs = this.#logprobs.download(new Float32Array(drawing.length));
    const topTokens = this.#topTokens.download(new Int32Array(drawing.length * MAX_TOP_LOGPROBS));
    const topLogprobs = this.#topLogprobs.download(new Float32Array(drawing.length * MAX_TOP_LOGPROBS));
    return drawing.map((sequence, i) => {
      const wanted = sequence.request.sampling.logprobs;
      if (wanted === undefined) return { sequence, token: tokens[i], logprob: undefined };
      const at = i * MAX_TOP_LOGPROBS;
      const top = Array.from({ length: wanted }, (_, k) => [topTokens[at + k], topLogprobs[at + k]] as const);
      return { sequence, token: tokens[i], logprob: { token: tokens[i], logprob: logprobs[i], top } };
    });
  }

  [Symbol.dispose](): void {
    for (const buffer of [this.#topLogprobs, this.#topTokens, this.#logprobs, this.#tokens]) buffer[Symbol.dispose]();
  }
}

function usesHistory({ request: { sampling } }: Sequence): boolean {
  return sampling.repetitionPenalty !== 1 || sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
}

/** Bytes of one block of the cache over all layers, keys and values. */
export function kvBlockBytes(config: DecoderWeights["config"], dtype: "f16" | "f32"): number {
  return 2 * config.layers * config.kvHeads * config.headDim * KV_BLOCK_SIZE * (dtype === "f16" ? 2 : 4);
}

function allocateKv(
  context: Context,
  { config }: DecoderWeights,
  options: RunnerOptions,
): { buffer: DeviceBuffer; kv: KvCache } {
  const { kvBlocks, kvDtype } = options;
  const buffer = context.alloc(kvBlockBytes(config, kvDtype) * kvBlocks);
  const part = buffer.bytes / (2 * config.layers);
  const parts = (first: number): Ref[] =>
    Array.from({ length: config.layers }, (_, i) => buffer.at((first + 2 * i) * part));
  return { buffer, kv: { k: parts(0), v: parts(1), dtype: kvDtype, blocks: kvBlocks } };
}

/** What InferenceOps takes from its arena at most: the residual stream, one block's tensors, and one set of logits. */
function workspaceBytes({ config }: DecoderWeights, rows: number, logitRows: number): number {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, vocabSize, qkNorm } = config;
  const attention = (qkNorm ? 2 : 1) * (heads + 2 * kvHeads) + heads;
  const perRow = headDim + hiddenSize + attention * headDim + 4 * hiddenSize + 2 * intermediateSize;
  const perLogitRow = 2 * hiddenSize + vocabSize;
  const alignmentSlack = 64 * 32;
  return (rows * perRow + logitRows * perLogitRow) * 4 + alignmentSlack;
}
