/**
 * The grammars of running sequences. A sequence whose grammar is still being compiled is not scheduled; afterwards the masks of a step are
 * asked for before the forward pass and fetched after it, so that they are computed while the model runs.
 */
import { GrammarService } from "../grammar/mod.ts";
import type { GrammarSpec } from "../grammar/spec.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { StepMasks } from "./model_runner.ts";
import type { Sequence } from "./sequence.ts";

export class Grammars implements StepMasks, Disposable {
  readonly #loaded: LoadedModel;
  #service: GrammarService | null = null;
  /** Compiling: resolved when done, either way. */
  readonly #compiling = new Map<Sequence, Promise<void>>();
  readonly #started: { sequence: Sequence; error: string | undefined }[] = [];
  /** How many of a sequence's tokens its matcher has been told. */
  readonly #told = new WeakMap<Sequence, number>();
  #failures: ReadonlyMap<string, string> = new Map();

  constructor(loaded: LoadedModel) {
    this.#loaded = loaded;
  }

  /** Begins to compile; `takeStarted` gives the sequence back when it can run or cannot. */
  start(sequence: Sequence, spec: GrammarSpec): void {
    const { dir, config, shape } = this.#loaded;
    this.#service ??= new GrammarService({ model: dir, vocabSize: config.vocabSize, rows: shape.maxSequences });
    const done = (error: string | undefined): void => {
      this.#compiling.delete(sequence);
      this.#started.push({ sequence, error });
    };
    const compiled = this.#service.start(sequence.request.id, spec).then(
      () => done(undefined),
      (error: Error) => done(error.message),
    );
    this.#compiling.set(sequence, compiled);
    this.#told.set(sequence, sequence.promptTokens);
  }

  /** Sequences whose compilation ended since the last call, those that failed with the reason. */
  takeStarted(): { sequence: Sequence; error: string | undefined }[] {
    return this.#started.splice(0);
  }

  /** Whether `takeStarted` has something to give. */
  get hasStarted(): boolean {
    return this.#started.length > 0;
  }

  /** Resolves when some compilation ends; undefined when one has ended already or none is under way. */
  progress(): Promise<void> | undefined {
    if (this.#started.length > 0 || this.#compiling.size === 0) return undefined;
    return Promise.race(this.#compiling.values());
  }

  request(drawing: readonly Sequence[]): boolean {
    this.#failures = new Map();
    const requests = drawing.flatMap((sequence, row) => {
      if (!sequence.request.grammar) return [];
      const accepted = sequence.tokens.slice(this.#told.get(sequence));
      this.#told.set(sequence, sequence.tokens.length);
      return [{ row, id: sequence.request.id, accepted }];
    });
    if (requests.length > 0) this.#service?.request(requests);
    return requests.length > 0;
  }

  collect(drawing: readonly Sequence[]): Uint32Array {
    if (!this.#service) throw new Error("Cannot collect masks: none were requested");
    this.#failures = this.#service.collect();
    const { masks } = this.#service;
    const words = Math.ceil(this.#loaded.config.vocabSize / 32);
    // A failed sequence ends after this step; until then it must be able to draw something.
    for (const [row, { request }] of drawing.entries()) {
      if (this.#failures.has(request.id)) masks.fill(0xffffffff, row * words, (row + 1) * words);
    }
    return masks;
  }

  /** Why the sequence has to end after the step that was just made, if it has to. */
  failure(sequence: Sequence): string | undefined {
    return this.#failures.get(sequence.request.id);
  }

  finish(sequence: Sequence): void {
    this.#service?.finish(sequence.request.id);
  }

  [Symbol.dispose](): void {
    this.#service?.[Symbol.dispose]();
  }
}
