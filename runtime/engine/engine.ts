/** The engine: requests in, tokens out. A step schedules, runs the model once, and hands every drawn token to its request. */
import { KV_BLOCK_SIZE } from "../ops/inference.ts";
import { AdapterStore } from "./adapter_store.ts";
import { BlockManager } from "./block_manager.ts";
import { Grammars } from "./grammars.ts";
import { type LoadedModel, type LoadReport, loadModel } from "./loaded_model.ts";
import type { DrawnToken } from "./model_runner.ts";
import { PrefillPace } from "./prefill_pace.ts";
import type {
  AdapterFinding,
  AdapterSpec,
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

export class Engine implements EngineCore {
  readonly #loaded: LoadedModel;
  readonly #grammars: Grammars;
  readonly #adapters: AdapterStore<Sequence>;
  readonly #blocks: BlockManager;
  readonly #scheduler: Scheduler;
  readonly #sequences = new Map<string, Sequence>();
  readonly #pace: PrefillPace;
  #promptTokens = 0;
  #generatedTokens = 0;
  #steps = 0;

  /** @param watched whether tokens are to come at a steady pace; if not, prompts enter as fast as they can */
  constructor(loaded: LoadedModel, watched = true) {
    this.#loaded = loaded;
    this.#pace = new PrefillPace(watched);
    this.#blocks = new BlockManager(loaded.shape.kvBlocks, KV_BLOCK_SIZE);
    this.#scheduler = new Scheduler(this.#blocks, loaded.info.maxSequences);
    this.#grammars = new Grammars(loaded);
    this.#adapters = new AdapterStore(loaded.context, loaded.lora, loaded.adapterHost, loaded.adapterSlots);
  }

  get model(): EngineModelInfo {
    return this.#loaded.info;
  }

  add(request: EngineRequest): void {
    if (this.#sequences.has(request.id)) throw new Error(`Cannot add request ${request.id}: the id is in use`);
    const capacity = Math.min(this.model.contextLength, this.#blocks.total * KV_BLOCK_SIZE);
    checkRequest(request, this.model, capacity);
    const sequence = new Sequence(request, -1);
    const slot = request.adapter === undefined ? -1 : this.#useAdapter(request.adapter, sequence);
    this.#sequences.set(request.id, sequence);
    if (slot !== undefined) this.#start(sequence, slot);
  }

  /** The adapter's slot, or undefined where the sequence has to wait for it. */
  #useAdapter(key: string, sequence: Sequence): number | undefined {
    try {
      return this.#adapters.use(key, sequence);
    } catch (error) {
      throw new Error(`Cannot add request ${sequence.request.id}: ${(error as Error).message}`);
    }
  }

  #start(sequence: Sequence, slot: number): void {
    sequence.adapterSlot = slot;
    if (sequence.request.grammar) this.#grammars.start(sequence, sequence.request.grammar);
    else this.#scheduler.add(sequence);
  }

  abort(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence) this.#finish(sequence);
  }

  hasWork(): boolean {
    return this.#sequences.size > 0 || this.#adapters.isBusy;
  }

  waiting(): Promise<void> | undefined {
    if (this.#scheduler.running + this.#scheduler.waiting > 0 || this.#grammars.hasStarted) return undefined;
    const [grammar, adapter] = [this.#grammars.progress(), this.#adapters.progress()];
    if (this.#adapters.isBusy && !adapter && !this.#adapters.isStuck) return undefined;
    return grammar && adapter ? Promise.race([grammar, adapter]) : (grammar ?? adapter);
  }

  step(): EngineOutput[] {
    this.#adapters.advance();
    const outputs: EngineOutput[] = [];
    for (const { user: sequence, slot, error } of this.#adapters.takeAdmitted()) {
      if (error === undefined) this.#start(sequence, slot);
      else outputs.push({ ...this.#fail(sequence, error), unavailable: true });
    }
    for (const { sequence, error } of this.#grammars.takeStarted()) {
      if (this.#sequences.get(sequence.request.id) !== sequence) continue;
      if (error === undefined) this.#scheduler.add(sequence);
      else outputs.push(this.#fail(sequence, error));
    }
    const scheduled = this.#scheduler.schedule(this.#pace.prefillRows(this.#scheduler.decoding));
    if (scheduled.length === 0) return outputs;
    const started = performance.now();
    const drawn = this.#loaded.runner.run(scheduled, this.#grammars);
    this.#pace.learn(scheduled, (performance.now() - started) / 1000);
    this.#scheduler.computed(scheduled);
    this.#steps++;
    for (const { sequence, count } of scheduled) if (sequence.generated === 0) this.#promptTokens += count;
    for (const token of drawn) outputs.push(this.#deliver(token));
    return outputs;
  }

  #deliver({ sequence, token, logprob }: DrawnToken): EngineOutput {
    const error = this.#grammars.failure(sequence);
    if (error !== undefined) return this.#fail(sequence, error);
    this.#generatedTokens++;
    const first = sequence.generated === 0;
    const finish = sequence.append(token);
    if (finish) this.#finish(sequence);
    return {
      id: sequence.request.id,
      tokens: [token],
      ...(logprob && { logprobs: [logprob] }),
      ...(first && { sharedTokens: sequence.sharedTokens, queueSeconds: sequence.queueSeconds }),
      ...(finish && { finish }),
    };
  }

  #fail(sequence: Sequence, error: string): EngineOutput {
    this.#finish(sequence);
    return { id: sequence.request.id, tokens: [], finish: "error", error };
  }

  #finish(sequence: Sequence): void {
    this.#sequences.delete(sequence.request.id);
    this.#scheduler.remove(sequence);
    this.#adapters.release(sequence);
    if (sequence.request.grammar) this.#grammars.finish(sequence);
  }

  stats(): EngineStats {
    return {
      running: this.#scheduler.running,
      waiting: this.#sequences.size - this.#scheduler.running,
      kvBlocksUsed: this.#blocks.used,
      kvBlocksTotal: this.#blocks.total,
      kvBlockSize: KV_BLOCK_SIZE,
      promptTokens: this.#promptTokens,
      generatedTokens: this.#generatedTokens,
      sharedTokens: this.#scheduler.sharedTokens,
      steps: this.#steps,
      adapters: this.#adapters.stats(),
    };
  }

  loadAdapter(adapter: AdapterSpec): Promise<AdapterFinding> {
    return this.#adapters.load(adapter);
  }

  knowAdapters(adapters: readonly AdapterSpec[]): void {
    this.#adapters.know(adapters);
  }

  freeAdapter(key: string): void {
    this.#adapters.free(key);
  }

  [Symbol.dispose](): void {
    this.#grammars[Symbol.dispose]();
    this.#adapters[Symbol.dispose]();
    this.#loaded[Symbol.dispose]();
  }
}

/** Loads a model and makes it ready to take requests. */
export async function createEngine(options: EngineOptions, report: LoadReport = () => {}): Promise<EngineCore> {
  return new Engine(loadModel(options, report));
}
