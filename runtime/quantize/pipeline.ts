/**
 * A whole run: the source's blocks one after the other become packed ones, then a model's folder. Memory: one block in float32,
 * what the method needs for it, and the calibration streams. Whatever ends it early, the same call continues behind the last
 * finished block.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Context } from "../../ffi/mod.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { JsonObject } from "../formats/json.ts";
import type { DecoderConfig } from "../models/config.ts";
import { type BlockWeights, blockLinears } from "../models/weights.ts";
import { type Assembled, assemble, type StoredTable } from "./assemble.ts";
import { type BitsFor, bitsByModule, checkTableBits } from "./bits_for.ts";
import { type BlockFile, type BlockRecord, readBlock, writeBlock } from "./block_file.ts";
import { applyStored, asStored } from "./block_forward.ts";
import { type Calibration, readCalibration } from "./calibration.ts";
import { CalibrationRun } from "./calibration_run.ts";
import { checkResult } from "./check_result.ts";
import { bytesToWrite, checkSpace } from "./disk_space.ts";
import { storedRows, storedTables } from "./embedding.ts";
import { explain } from "./failures.ts";
import { checkTables } from "./finite.ts";
import { openInit } from "./init.ts";
import { checkGroups, keptModules } from "./keep.ts";
import { linearRecords } from "./linear_records.ts";
import { LossRecorder } from "./loss_recorder.ts";
import type { CalibrationStream, MethodEvent, MethodSettings, QuantizationMethod, QuantizedLinear } from "./method.ts";
import { discardModelPhase, finishModel, type ModelRecord } from "./model_phase.ts";
import { PartialFolder, REPORT, refuseExisting, refuseInside } from "./partial_folder.ts";
import { peakBytes } from "./peak_memory.ts";
import { readQuantized } from "./read_stored.ts";
import { type ReportResult, writeReport } from "./report.ts";
import type { CalibrationSettings, EmbeddingBits } from "./settings.ts";
import { loadBlock, loadInverseFrequencies, openSource, readWeights, type Source } from "./source.ts";

export interface QuantizeOptions {
  readonly source: string;
  /** Folder to make; `out`.partial holds what is finished until then. */
  readonly out: string;
  readonly method: QuantizationMethod;
  /** The file that `method` comes from, where it is a user's own. */
  readonly methodFile?: string;
  readonly settings: MethodSettings;
  readonly calibration: CalibrationSettings;
  readonly keep: readonly string[];
  readonly bitsFor: readonly BitsFor[];
  readonly embeddingBits: EmbeddingBits;
  /** Folder of another run's result. */
  readonly initFrom: string | null;
  readonly streamDir: string | null;
  /** 0: all. */
  readonly threads: number;
  readonly signal?: AbortSignal;
  readonly shardBytes?: number;
}

export interface BlockEvent extends MethodEvent {
  readonly layer: number;
  readonly layers: number;
}

/** What a block goes through: the full-precision stream, the method, then the quantized stream. */
export type Phase = "targets" | "quantize" | "advance";

export interface QuantizeEvents {
  /** Also for blocks that are replayed. */
  onPhase?(phase: Phase, layer: number, layers: number): void;
  onStep?(event: BlockEvent): void;
  /** Blocks that an earlier run had finished; called once, before anything is computed. */
  onResume?(finished: number, layers: number): void;
  onBlock?(record: BlockRecord, layers: number): void;
  /** While a method works on the whole model, behind the last block. */
  onModelStep?(event: MethodEvent): void;
  /** When it is done; also where an earlier run had done it. */
  onModel?(record: ModelRecord): void;
  /** While the model is written: tensors done, and all. */
  onAssemble?(done: number, total: number): void;
  onNote?(text: string): void;
  /** The quantized stream behind a block, valid during the call. */
  onStream?(layer: number, stream: CalibrationStream): void;
}

export interface QuantizeResult extends Assembled {
  readonly out: string;
  /** Of this call, and of the blocks that earlier ones had finished. */
  readonly seconds: number;
  readonly peakBytes: number;
  readonly blocks: readonly BlockRecord[];
}

/** What a run works with, opened and checked. */
export interface Prepared {
  readonly source: Source;
  readonly kept: ReadonlySet<string>;
  /** Of linears with bits of their own. */
  readonly bitsFor: ReadonlyMap<string, MethodSettings["bits"]>;
  readonly calibration: Calibration | null;
  readonly init: Checkpoint | null;
}

/** Opens everything that `options` name and checks that it fits together; nothing is computed or written. */
export function prepare(options: QuantizeOptions): Prepared {
  const { method, settings, calibration } = options;
  refuseInside(options.out, options.source);
  refuseExisting(options.out);
  const source = openSource(options.source);
  const linears = source.blocks.flat();
  const kept = keptModules(linears, options.keep);
  checkGroups(linears, kept, settings.group);
  if (method.uses.includes("rank")) checkRank(settings.rank, source.config);
  if (method.needsCalibration && calibration.data === null) {
    throw new Error(`Cannot run ${method.name} without calibration data: give --data FILE`);
  }
  const { data } = calibration;
  const { vocabSize } = source.config;
  const bitsFor = bitsByModule(linears, options.bitsFor);
  if (method.uses.includes("base")) checkTableBits(method.name, settings, bitsFor.values());
  return {
    source,
    kept,
    bitsFor,
    calibration:
      method.needsCalibration && data !== null
        ? readCalibration({ ...calibration, data }, options.source, vocabSize, settings.seed)
        : null,
    init: options.initFrom === null ? null : openInit(options.initFrom, source),
  };
}

/** @throws where no matrix of the model has so many rows and columns */
function checkRank(rank: number, { hiddenSize }: DecoderConfig): void {
  if (rank <= hiddenSize) return;
  throw new Error(`Cannot use --rank: received ${rank}, expected at most ${hiddenSize}, the model's hidden size`);
}

/** @throws {QuantizeError} one line that says what stopped the run and what is kept; an AbortError where `signal` did */
export async function quantize(options: QuantizeOptions, events: QuantizeEvents = {}): Promise<QuantizeResult> {
  const started = performance.now();
  const prepared = prepare(options);
  const { source } = prepared;
  const layers = source.config.layers;
  const identity = settingsOf(options, prepared);
  const about = { blocks: layers, threads: options.threads, started: new Date().toISOString() };
  using folder = PartialFolder.open(options.out, identity, about, layers);
  for (const note of notesOf(options, prepared)) events.onNote?.(note);
  if (folder.finished.length > 0) events.onResume?.(folder.finished.length, layers);

  const run = new Run(options, prepared, folder, identity, events);
  try {
    checkSpace(options.out, bytesToWrite(options, prepared, folder.finished.length), "the blocks and the model");
    if (folder.finished.length === 0) checkTables(source);
    await run.blocks();
    return await run.finish(started);
  } catch (error) {
    const done = folder.finished.length;
    const kept =
      done === 0
        ? "No block was finished"
        : `${done} of ${layers} blocks are kept in ${folder.dir}: the same command continues`;
    throw explain(error, run.doing, kept);
  }
}

/** Everything that decides the result, flat: two runs with equal settings end with equal bytes. */
function settingsOf(options: QuantizeOptions, { source, calibration, init }: Prepared): JsonObject {
  const file = options.methodFile;
  return {
    method: options.method.name,
    ...(file !== undefined && { quantizer: createHash("sha256").update(readFileSync(file)).digest("hex") }),
    ...options.settings,
    keep: options.keep,
    ...(options.bitsFor.length > 0 && { bitsFor: options.bitsFor.map(({ pattern, bits }) => `${pattern}=${bits}`) }),
    embedBits: options.embeddingBits,
    source: source.checkpoint.fingerprint,
    data: calibration?.sha256 ?? null,
    samples: calibration?.windows.length ?? null,
    length: calibration?.length ?? null,
    initFrom: init?.fingerprint ?? null,
  };
}

function notesOf({ method, calibration: { data } }: QuantizeOptions, { calibration }: Prepared): readonly string[] {
  if (calibration !== null) return calibration.notes;
  return data === null ? [] : [`${method.name} needs no calibration: ${data} is not read.`];
}

class Run {
  readonly #options: QuantizeOptions;
  readonly #prepared: Prepared;
  readonly #folder: PartialFolder;
  readonly #settings: JsonObject;
  readonly #events: QuantizeEvents;
  #yieldedAt = performance.now();
  /** What the blocks took that earlier calls had finished. */
  readonly #secondsBefore: number;
  /** Blocks that a method revised at the end, as the model will have them. */
  #revised: readonly BlockFile[] | null = null;
  /** What is under way, for messages. */
  doing = "begin the run";

  constructor(
    options: QuantizeOptions,
    prepared: Prepared,
    folder: PartialFolder,
    settings: JsonObject,
    events: QuantizeEvents,
  ) {
    this.#options = options;
    this.#prepared = prepared;
    this.#folder = folder;
    this.#settings = settings;
    this.#events = events;
    this.#secondsBefore = folder.finished.reduce((sum, { record }) => sum + record.seconds, 0);
  }

  get #layers(): number {
    return this.#prepared.source.config.layers;
  }

  async blocks(): Promise<void> {
    const { source, calibration } = this.#prepared;
    if (this.#folder.finished.length === this.#layers) return;
    discardModelPhase(this.#folder.dir);
    using context = Context.open({ threads: this.#options.threads });
    using frequencies = loadInverseFrequencies(context, source.config);
    const inverseFrequencies = frequencies.at(0);
    const streams =
      calibration === null
        ? null
        : await CalibrationRun.start(context, source, calibration, {
            inverseFrequencies,
            streamDir: this.#options.streamDir,
            storedRows: storedRows(context, source, this.#options.embeddingBits),
            pause: this.#pause,
          });
    try {
      for (let layer = 0; layer < this.#layers; layer++) {
        const finished = this.#folder.finished[layer];
        this.doing = `${finished ? "replay" : "quantize"} block ${layer + 1} of ${this.#layers}`;
        if (finished === undefined) {
          await this.#quantizeBlock(context, layer, streams, inverseFrequencies);
        } else if (streams !== null) {
          using block = loadBlock(context, source, layer);
          this.#events.onPhase?.("targets", layer, this.#layers);
          await streams.makeTargets(block.weights, layer);
          this.#events.onPhase?.("advance", layer, this.#layers);
          this.#apply(context, block.weights, readBlock(finished, source.blocks[layer]!));
          await streams.advance(block.weights, layer);
        }
        if (streams !== null) this.#events.onStream?.(layer, streams.inputs);
      }
    } finally {
      streams?.[Symbol.dispose]();
    }
  }

  /** Signals and timers get their turn, now and then; rejects when the run is to stop. */
  #pause = async (): Promise<void> => {
    if (performance.now() - this.#yieldedAt > 50) {
      await setImmediate();
      this.#yieldedAt = performance.now();
    }
    this.#options.signal?.throwIfAborted();
  };

  async #quantizeBlock(
    context: Context,
    layer: number,
    streams: CalibrationRun | null,
    inverseFrequencies: Parameters<QuantizationMethod["quantizeBlock"]>[0]["inverseFrequencies"],
  ): Promise<void> {
    const started = performance.now();
    const { source, kept, bitsFor, init } = this.#prepared;
    const { method, settings } = this.#options;
    const linears = source.blocks[layer]!;
    using block = loadBlock(context, source, layer);
    if (streams !== null) this.#events.onPhase?.("targets", layer, this.#layers);
    const calibration = streams === null ? null : await streams.makeTargets(block.weights, layer);
    this.#events.onPhase?.("quantize", layer, this.#layers);
    const losses = new LossRecorder();
    const made = await method.quantizeBlock({
      context,
      config: source.config,
      layer,
      block: block.weights,
      inverseFrequencies,
      settings,
      kept: new Set(blockLinears(block.weights).filter(({ name }) => kept.has(name))),
      bitsFor,
      init: init === null ? null : readQuantized(init, linears),
      calibration,
      report: async (event) => {
        losses.add(event);
        this.#events.onStep?.({ ...event, layer, layers: this.#layers });
        await this.#pause();
      },
    });
    checkResult(made, linears, kept);
    const result = new Map<string, QuantizedLinear>();
    for (const linear of linears) {
      const quantized = made.get(linear.module);
      result.set(linear.module, quantized ? asStored(quantized) : keptLinear(readWeights(linear), linear.weight.dtype));
    }
    this.#apply(context, block.weights, result);
    const records = await linearRecords(block.weights, linears, result, this.#pause);
    if (streams !== null) this.#events.onPhase?.("advance", layer, this.#layers);
    const outputError = streams === null ? null : await streams.advance(block.weights, layer);
    if (outputError !== null && !Number.isFinite(outputError)) {
      throw new Error("the hidden states behind the block are no finite numbers");
    }
    const seconds = (performance.now() - started) / 1000;
    const memory = peakBytes(context);
    const record = { layer, seconds, peakBytes: memory, losses: losses.curves(), outputError, linears: records };
    await writeBlock(this.#folder.dir, linears, result, kept, record);
    this.#folder.add(layer);
    await this.#report();
    this.#events.onBlock?.(record, this.#layers);
  }

  #apply(context: Context, block: BlockWeights, result: ReadonlyMap<string, QuantizedLinear>): void {
    for (const linear of blockLinears(block)) applyStored(context, linear, result.get(linear.name)!);
  }

  get #blocks(): readonly BlockFile[] {
    return this.#revised ?? this.#folder.finished;
  }

  /** The method's last word on the whole model, where it has one. */
  async #finishModel(context: Context, tables: readonly StoredTable[]): Promise<ModelRecord | null> {
    const { source, kept, calibration } = this.#prepared;
    const { method, settings } = this.#options;
    if (!method.finish || settings.endToEndEpochs === 0 || calibration === null) return null;
    this.doing = "train the model end to end";
    const { blocks, record } = await finishModel({
      context,
      source,
      method,
      settings,
      samples: calibration.windows,
      kept,
      dir: this.#folder.dir,
      blocks: this.#folder.finished,
      tables,
      onStep: (event) => this.#events.onModelStep?.(event),
      pause: this.#pause,
    });
    this.#revised = blocks;
    this.#folder.log({ type: "end-to-end", ...record });
    this.#events.onModel?.(record);
    return record;
  }

  #report(result?: ReportResult): Promise<void> {
    const records = this.#blocks.map(({ record }) => record);
    const path = join(this.#folder.dir, REPORT);
    return writeReport(path, this.#options, this.#settings, records, this.#layers, result);
  }

  async finish(started: number): Promise<QuantizeResult> {
    const { source } = this.#prepared;
    const { out, shardBytes, embeddingBits } = this.#options;
    using context = Context.open({ threads: this.#options.threads });
    this.doing = "put the model together";
    const tables = storedTables(context, source, embeddingBits);
    const model = await this.#finishModel(context, tables);
    this.doing = "put the model together";
    const dir = join(this.#folder.dir, "model");
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir);
    const onTensor = (done: number, total: number): void => {
      this.#options.signal?.throwIfAborted();
      this.#events.onAssemble?.(done, total);
    };
    const assembled = await assemble(dir, source, this.#blocks, tables, shardBytes, onTensor);
    for (const name of assembled.leftOut)
      this.#events.onNote?.(`${name} belongs to no ${source.config.family.name} model and is left out.`);
    const seconds = this.#secondsBefore + (performance.now() - started) / 1000;
    const blocks = this.#blocks.map(({ record }) => record);
    const memory = Math.max(peakBytes(context), ...blocks.map((block) => block.peakBytes));
    this.#folder.log({ type: "done", seconds, peakBytes: memory, ...assembled });
    await this.#report({ seconds, peakBytes: memory, model, ...assembled });
    this.#folder.publish(dir, out);
    return { out, seconds, peakBytes: memory, blocks, ...assembled };
  }
}

/** A linear that stays in 16 bits: float32 is rounded to float16, the others stay what they are. */
function keptLinear(values: Float32Array, dtype: string): QuantizedLinear {
  const rounded = dtype === "F32" ? new Float32Array(new Float16Array(values)) : values;
  return { weights: { family: "dense", values: rounded }, lora: null };
}
