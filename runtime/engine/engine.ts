/** The engine: requests in, tokens out. A step schedules, runs the model once, and hands every drawn token to its request. */
import { Context, type ContextOptions } from "../../ffi/mod.ts";
import { type AdapterSource, openAdapter, openCheckpoint } from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { type LoadedDecoder, loadDecoder } from "../models/load.ts";
import { LoraTable } from "../models/lora.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { KV_BLOCK_SIZE } from "../ops/inference.ts";
import { BlockManager } from "./block_manager.ts";
import { chooseShape, type EngineShape } from "./engine_shape.ts";
import { type DrawnToken, ModelRunner } from "./model_runner.ts";
import { PrefillPace } from "./prefill_pace.ts";
import type {
  EngineCore,
  EngineModelInfo,
  EngineOptions,
  EngineOutput,
  EngineRequest,
  EngineStats,
} from "./protocol.ts";
import { checkRequest } from "./request_check.ts";
import { Scheduler } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";

export type LoadReport = (stage: string, done: number, total: number) => void;

/** A model on a device with its runner: what the engine, `eval` and `bench` build on. */
export interface LoadedModel extends Disposable {
  readonly context: Context;
  readonly runner: ModelRunner;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly info: EngineModelInfo;
  readonly shape: EngineShape;
  /** Slot of each adapter by name. */
  readonly adapterSlots: ReadonlyMap<string, number>;
}

/** Opens, checks and loads a model folder and the adapters that go with it. */
export function loadModel(options: EngineOptions, report: LoadReport = () => {}): LoadedModel {
  const started = performance.now();
  const checkpoint = openCheckpoint(options.model);
  const config = parseConfig(checkpoint.config, `${options.model}/config.json`);
  const adapters = Object.entries(options.adapters).map(([name, dir]) => [name, openAdapter(dir)] as const);
  const owned: Disposable[] = [];
  const own = <T extends Disposable>(value: T): T => {
    owned.push(value);
    return value;
  };
  const dispose = (): void => {
    for (const value of owned.splice(0).reverse()) value[Symbol.dispose]();
  };
  try {
    const context = own(Context.open(contextOptions(options)));
    const decoder = own(loadDecoder(context, checkpoint, config, (done, total) => report("weights", done, total)));
    const shape = chooseShape(config, options);
    const lora = loadAdapters(context, decoder, checkpoint.initAdapter ?? null, adapters, shape.loraDtype);
    if (lora) own(lora);
    const runner = own(new ModelRunner(context, decoder.weights, lora, checkpoint.initAdapter !== undefined, shape));
    const description = context.describe();
    return {
      context,
      runner,
      config,
      weights: decoder.weights,
      shape,
      adapterSlots: new Map(adapters.map(([name], i) => [name, i + 1])),
      info: {
        contextLength: shape.contextLength,
        vocabSize: config.vocabSize,
        maxSequences: shape.maxSequences,
        fingerprint: checkpoint.fingerprint,
        adapters: adapters.map(([name]) => name),
        device: description.device,
        isa: description.isa,
        threads: description.threads,
        memory: {
          weights: decoder.weightBytes,
          lora: lora?.poolBytes ?? 0,
          kvCache: runner.kvBytes,
          scratch: context.memory().scratchBytes,
        },
        loadSeconds: (performance.now() - started) / 1000,
      },
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

function contextOptions(options: EngineOptions): ContextOptions {
  return { device: options.device === "auto" ? "cpu" : options.device, threads: options.threads };
}

function loadAdapters(
  context: Context,
  decoder: LoadedDecoder,
  calibrated: AdapterSource | null,
  adapters: readonly (readonly [string, AdapterSource])[],
  dtype: "f16" | "f32",
): LoraTable | null {
  if (!calibrated && adapters.length === 0) return null;
  const bySlot = [calibrated, ...adapters.map(([, adapter]) => adapter)];
  return new LoraTable(context, decoder.weights, bySlot, dtype);
}

export class Engine implements EngineCore {
  readonly #loaded: LoadedModel;
  readonly #blocks: BlockManager;
  readonly #scheduler: Scheduler;
  readonly #sequences = new Map<string, Sequence>();
  readonly #pace = new PrefillPace();
  #promptTokens = 0;
  #generatedTokens = 0;
  #steps = 0;

  constructor(loaded: LoadedModel) {
    this.#loaded = loaded;
    this.#blocks = new BlockManager(loaded.shape.kvBlocks, KV_BLOCK_SIZE);
    this.#scheduler = new Scheduler(this.#blocks, loaded.info.maxSequences);
  }

  get model(): EngineModelInfo {
    return this.#loaded.info;
  }

  add(request: EngineRequest): void {
    if (this.#sequences.has(request.id)) throw new Error(`Cannot add request ${request.id}: the id is in use`);
    const capacity = Math.min(this.model.contextLength, this.#blocks.total * KV_BLOCK_SIZE);
    checkRequest(request, this.model, capacity);
    const slot = request.adapter === undefined ? -1 : this.#loaded.adapterSlots.get(request.adapter);
    if (slot === undefined) throw new Error(`Cannot add request ${request.id}: no adapter ${request.adapter}`);
    const sequence = new Sequence(request, slot);
    this.#sequences.set(request.id, sequence);
    this.#scheduler.add(sequence);
  }

  abort(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence) this.#finish(sequence);
  }

  hasWork(): boolean {
    return this.#sequences.size > 0;
  }

  step(): EngineOutput[] {
    const scheduled = this.#scheduler.schedule(this.#pace.prefillRows(this.#scheduler.decoding));
    if (scheduled.length === 0) return [];
    const started = performance.now();
    const drawn = this.#loaded.runner.run(scheduled);
    this.#pace.learn(scheduled, (performance.now() - started) / 1000);
    this.#scheduler.computed(scheduled);
    this.#steps++;
    for (const { sequence, count } of scheduled) if (sequence.generated === 0) this.#promptTokens += count;
    return drawn.map((token) => this.#deliver(token));
  }

  #deliver({ sequence, token, logprob }: DrawnToken): EngineOutput {
    this.#generatedTokens++;
    const finish = sequence.append(token);
    if (finish) this.#finish(sequence);
    return { id: sequence.request.id, tokens: [token], logprobs: logprob && [logprob], finish };
  }

  #finish(sequence: Sequence): void {
    this.#sequences.delete(sequence.request.id);
    this.#scheduler.remove(sequence);
  }

  stats(): EngineStats {
    return {
      running: this.#scheduler.running,
      waiting: this.#scheduler.waiting,
      kvBlocksUsed: this.#blocks.used,
      kvBlocksTotal: this.#blocks.total,
      promptTokens: this.#promptTokens,
      generatedTokens: this.#generatedTokens,
      sharedTokens: this.#scheduler.sharedTokens,
      steps: this.#steps,
    };
  }

  [Symbol.dispose](): void {
    this.#loaded[Symbol.dispose]();
  }
}

/** Loads a model and makes it ready to take requests. */
export async function createEngine(options: EngineOptions, report: LoadReport = () => {}): Promise<EngineCore> {
  return new Engine(loadModel(options, report));
}
