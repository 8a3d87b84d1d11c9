/** The engine: requests in, tokens out. A step schedules, runs the model once, and hands every drawn token to its request. */
import { KV_BLOCK_SIZE } from "../ops/inference.ts";
import { BlockManager } from "./block_manager.ts";
import { Grammars } from "./grammars.ts";
import { type LoadedModel, type LoadReport, loadModel } from "./loaded_model.ts";
import type { DrawnToken } from "./model_runner.ts";
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

export class Engine implements EngineCore {
  readonly #loaded: LoadedModel;
  readonly #grammars: Grammars;
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
    if (request.grammar) this.#grammars.start(sequence, request.grammar);
    else this.#scheduler.add(sequence);
  }

  abort(id: string): void {
    const sequence = this.#sequences.get(id);
    if (sequence) this.#finish(sequence);
  }

  hasWork(): boolean {
    return this.#sequences.size > 0;
  }

  waiting(): Promise<void> | undefined {
    return this.#scheduler.running + this.#scheduler.waiting === 0 ? this.#grammars.progress() : undefined;
  }

  step(): EngineOutput[] {
    const outputs: EngineOutput[] = [];
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
      ...(first && { sharedTokens: sequence.sharedTokens }),
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
    if (sequence.request.grammar) this.#grammars.finish(sequence);
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
    this.#grammars[Symbol.dispose]();
    this.#loaded[Symbol.dispose]();
  }
}

/** Loads a model and makes it ready to take requests. */
export async function createEngine(options: EngineOptions, report: LoadReport = () => {}): Promise<EngineCore> {
  return new Engine(loadModel(options, report));
}
