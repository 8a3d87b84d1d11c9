/**
 * A whole run: LoRA of a packed or dense model trains on a file's examples, then becomes an adapter's folder. The base is frozen
 * and stays packed. Whatever ends the run early, the same call continues from the last state on disk, to the same bytes.
 */
import { setImmediate } from "node:timers/promises";
import { Context } from "../../ffi/mod.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { JsonObject } from "../formats/json.ts";
import { checkSpace } from "../quantize/disk_space.ts";
import { isAbort } from "../quantize/failures.ts";
import { emptyFolder } from "../quantize/partial_folder.ts";
import { peakBytes } from "../quantize/peak_memory.ts";
import type { TokenBatch } from "../training/model_trainer.ts";
import { writeTrainedAdapter } from "./adapter_output.ts";
import { type Best, type Position, SavedState, saveState, saveValues } from "./checkpoint.ts";
import type { Example } from "./data/mod.ts";
import { explain } from "./failures.ts";
import { writeTrainedModel } from "./model_output.ts";
import type { FinetuneEvents, FinetuneOptions, FinetuneResult } from "./options.ts";
import { TrainingFolder } from "./partial_folder.ts";
import { identityOf, type Prepared, prepare, stepTokens, taughtExamples } from "./prepare.ts";
import type { EvalRecord, StepRecord } from "./records.ts";
import { writeReport } from "./report.ts";
import { scheduleFactor } from "./schedule.ts";
import { batchesOf } from "./steps.ts";
import { TeacherCache, teacherBytes } from "./teacher_cache.ts";
import { diskBytes, objectiveOf, Training } from "./training.ts";
import { DivergedError, type MeanLoss } from "./training_step.ts";

/** Without --save-every, seconds between two states. */
const SAVE_SECONDS = 120;
/** Dropout's masks are numbered: more than a step has batches. */
const DRAWS_PER_STEP = 2 ** 16;
const EMULATED =
  "--compute bf16 needs AVX-512 BF16 to be fast: this instruction set gives the same result, no sooner than with f32.";
/** Steps of which the first and the last loss of a run are means. */
const ENDS = 10;

/** @throws {FinetuneError} one line that says what stopped the run and what is kept; an AbortError where `signal` did */
export async function finetune(options: FinetuneOptions, events: FinetuneEvents = {}): Promise<FinetuneResult> {
  const prepared = prepare(options);
  const identity = identityOf(options, prepared);
  const files = prepared.data.map(({ file }) => file);
  const about = { threads: options.threads, files, started: new Date().toISOString() };
  using folder = TrainingFolder.open(options.out, identity, about);
  for (const note of prepared.notes) events.onNote?.(note);
  for (const row of prepared.data.flatMap(({ skipped }) => skipped)) folder.log({ type: "skipped", ...row });
  using context = Context.open({ threads: options.threads });
  if (options.settings.compute === "bf16" && context.describe().isa !== "avx512bf16") events.onNote?.(EMULATED);
  const run = new Run(options, prepared, folder, identity, context, events);
  try {
    return await run.all();
  } catch (error) {
    throw explain(error, run.doing, run.kept);
  }
}

class Run {
  readonly #options: FinetuneOptions;
  readonly #prepared: Prepared;
  readonly #folder: TrainingFolder;
  readonly #identity: JsonObject;
  readonly #context: Context;
  readonly #events: FinetuneEvents;
  readonly #began = performance.now();
  readonly #secondsBefore: number;
  #yieldedAt = performance.now();
  #teacher: TeacherCache | null = null;
  /** The next step to make. */
  #step: number;
  #evaluated: number | null;
  #best: Best | null;
  /** The step behind which the state on disk was; null: there is none. */
  #saved: number | null;
  #savedAt = performance.now();
  /** The last step could not be made, and cannot with these settings. */
  #diverged = false;
  /** What is under way, for messages. */
  doing = "begin the run";

  constructor(
    options: FinetuneOptions,
    prepared: Prepared,
    folder: TrainingFolder,
    identity: JsonObject,
    context: Context,
    events: FinetuneEvents,
  ) {
    this.#options = options;
    this.#prepared = prepared;
    this.#folder = folder;
    this.#identity = identity;
    this.#context = context;
    this.#events = events;
    const position = folder.saved?.position ?? null;
    this.#step = position?.step ?? 0;
    this.#saved = position?.step ?? null;
    this.#evaluated = position?.evaluated ?? null;
    this.#best = position?.best ?? null;
    this.#secondsBefore = position?.seconds ?? 0;
  }

  get #steps(): number {
    return this.#prepared.steps.total;
  }

  /** What remains of the run. */
  get kept(): string {
    if (this.#diverged) {
      const { lastGood } = this.#folder;
      return this.#options.settings.trainScales
        ? `The model after step ${this.#step} is kept in ${lastGood}`
        : `The adapter after step ${this.#step} is kept: --start ${lastGood} with another --out begins from it`;
    }
    if (this.#saved === null) return "Nothing was kept";
    return `The state after ${this.#saved} of ${this.#steps} steps is kept in ${this.#folder.dir}: the same command continues`;
  }

  get #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#began) / 1000;
  }

  async all(): Promise<FinetuneResult> {
    const { steps } = this.#prepared;
    await this.#askTeacher();
    this.doing = "load the model";
    using training = new Training(this.#context, this.#prepared, this.#options);
    this.doing = "begin the run";
    checkSpace(this.#options.out, diskBytes(training), "the state and the result");
    this.#folder.saved?.restore(training.groups);
    if (this.#step > 0) this.#events.onResume?.(this.#step, this.#steps);
    this.#events.onBegin?.(this.#steps, steps.epochs);
    try {
      await this.#train(training);
    } catch (error) {
      if (isAbort(error) && this.#step > (this.#saved ?? 0)) await this.#save(training);
      if (error instanceof DivergedError) await this.#keepLastGood(training);
      throw error;
    }
    return await this.#finish(training);
  }

  /** Before the model is loaded: the two are never in memory together. */
  async #askTeacher(): Promise<void> {
    const { teacher } = this.#options;
    const objective = objectiveOf(this.#options.settings);
    if (teacher === null || objective.kind === "sft") return;
    const { shape } = this.#prepared;
    const examples = taughtExamples(this.#prepared);
    const { fingerprint } = this.#prepared.teacher as Checkpoint;
    const dir = this.#folder.teacher;
    checkSpace(this.#options.out, teacherBytes(examples, objective), "the teacher's tokens");
    const { compute } = this.#options.settings;
    const options = { context: this.#context, teacher, fingerprint, dir, examples, shape, objective, compute };
    const onProgress = (done: number, total: number): void => this.#events.onTeacher?.(done, total);
    this.doing = "ask the teacher";
    this.#teacher = await TeacherCache.make(options, this.#pause, onProgress);
  }

  /** A teacher's tokens are read when a batch's turn comes. */
  *#batches(examples: readonly Example[]): Generator<TokenBatch> {
    for (const batch of batchesOf(examples, this.#prepared.shape)) yield this.#teacher?.attach(batch) ?? batch;
  }

  async #train(training: Training): Promise<void> {
    for (;;) {
      if (this.#wantsEvaluation()) {
        await this.#evaluate(training);
        await this.#save(training);
      }
      if (this.#step === this.#steps) return;
      await this.#makeStep(training);
      if (this.#wantsSaving()) await this.#save(training);
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

  async #makeStep(training: Training): Promise<void> {
    const { steps, schedule } = this.#prepared;
    const { learningRate } = this.#options.settings;
    const index = this.#step;
    this.doing = `make step ${index + 1} of ${this.#steps}`;
    const began = performance.now();
    const factor = scheduleFactor(schedule, index);
    const drawn = [...this.#batches(steps.examples(index))].map((batch, i) => ({
      ...batch,
      draw: index * DRAWS_PER_STEP + i,
    }));
    const result = await training.step.run(drawn, factor, this.#pause);
    this.#step++;
    const seconds = (performance.now() - began) / 1000;
    const record: StepRecord = {
      type: "step",
      step: this.#step,
      epoch: steps.epochOf(index) + 1,
      ...this.#losses(result),
      norm: result.norm,
      learningRate: learningRate * factor,
      tokens: result.tokens,
      tokensPerSecond: stepTokens(this.#prepared, index) / seconds,
      seconds,
      peakBytes: peakBytes(this.#context),
    };
    this.#folder.add(record);
    this.#events.onStep?.(record, this.#steps);
  }

  #losses({ loss, nll, kl }: MeanLoss): Pick<StepRecord, "loss" | "nll" | "kl"> {
    return this.#options.settings.objective === "sft" ? { loss } : { loss, nll, kl };
  }

  #wantsEvaluation(): boolean {
    const { validation, evalEvery } = this.#prepared;
    if (validation.length === 0 || this.#evaluated === this.#step) return false;
    return this.#step % evalEvery === 0 || this.#step === this.#steps;
  }

  async #evaluate(training: Training): Promise<void> {
    const { validation } = this.#prepared;
    const step = this.#step;
    this.doing = `validate after step ${step} of ${this.#steps}`;
    const began = performance.now();
    const mean = await training.step.loss(this.#batches(validation), this.#pause);
    if (!Number.isFinite(mean.loss)) throw new DivergedError("loss", mean.loss);
    const record: EvalRecord = {
      type: "eval",
      step,
      ...this.#losses(mean),
      perplexity: Math.exp(mean.nll),
      tokens: mean.tokens,
      seconds: (performance.now() - began) / 1000,
    };
    const isBest = this.#best === null || mean.loss < this.#best.loss;
    this.#evaluated = step;
    if (isBest) {
      this.#best = { step, loss: mean.loss };
      await saveValues(this.#folder.best, training.groups, this.#position());
    }
    this.#folder.add(record);
    this.#events.onEval?.(record, isBest);
  }

  #wantsSaving(): boolean {
    const { saveEvery } = this.#options;
    if (this.#step === this.#steps) return true;
    if (saveEvery !== null) return this.#step % saveEvery === 0;
    return performance.now() - this.#savedAt > 1000 * SAVE_SECONDS;
  }

  #position(): Position {
    return { step: this.#step, evaluated: this.#evaluated, best: this.#best, seconds: this.#seconds };
  }

  async #save(training: Training): Promise<void> {
    await saveState(this.#folder.checkpoint, training.groups, this.#position());
    this.#saved = this.#step;
    this.#savedAt = performance.now();
    await this.#report();
  }

  #report(result?: FinetuneResult): Promise<void> {
    const { report, records } = this.#folder;
    return writeReport(report, this.#options, this.#identity, records, this.#steps, result);
  }

  /** What trained is still that of the step before: what another run can start from. */
  async #keepLastGood(training: Training): Promise<void> {
    if (this.#step === 0) return;
    this.#diverged = true;
    await this.#save(training);
    await this.#write(emptyFolder(this.#folder.lastGood), training);
  }

  #write(dir: string, training: Training): Promise<void> {
    const { settings } = this.#options;
    const write = settings.trainScales ? writeTrainedModel : writeTrainedAdapter;
    return write(dir, training, this.#prepared, settings);
  }

  async #finish(training: Training): Promise<FinetuneResult> {
    this.doing = "write the result";
    const { out, settings } = this.#options;
    if (this.#best !== null && this.#best.step !== this.#step)
      new SavedState(this.#folder.best).restore(training.groups);
    await this.#write(this.#folder.makeResult(), training);
    const { records } = this.#folder;
    const made = records.filter((record) => record.type === "step");
    const seconds = this.#seconds;
    const result: FinetuneResult = {
      out,
      kind: settings.trainScales ? "model" : "adapter",
      steps: this.#steps,
      epochs: this.#prepared.steps.epochs,
      tokens: sum(made.map(({ tokens }) => tokens)),
      firstLoss: mean(made.slice(0, ENDS).map(({ loss }) => loss)),
      lastLoss: mean(made.slice(-ENDS).map(({ loss }) => loss)),
      firstValidation: records.find((record) => record.type === "eval") ?? null,
      best: this.#best,
      parameters: training.parameters,
      tokensPerSecond: sum(made.map((r) => r.tokensPerSecond * r.seconds)) / sum(made.map((r) => r.seconds)),
      seconds,
      peakBytes: Math.max(peakBytes(this.#context), ...made.map((record) => record.peakBytes)),
    };
    this.#folder.log({ type: "done", ...result });
    await this.#report(result);
    this.#folder.publish(out);
    return result;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}
