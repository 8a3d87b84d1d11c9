/** Everything that a run needs, opened and checked: no weight is read and nothing is written. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { JsonObject } from "../formats/json.ts";
import { type AdapterSource, type Checkpoint, openCheckpoint } from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { refuseExisting, refuseInside } from "../quantize/partial_folder.ts";
import { hasTokenizer, openTokenizer } from "../tokenizer/mod.ts";
import { type DataFile, type Dataset, type Example, readDataset, readMixture, splitValidation } from "./data/mod.ts";
import { otherArchitecture } from "./first_weights.ts";
import type { FinetuneOptions } from "./options.ts";
import type { Schedule } from "./schedule.ts";
import { openStart, type Start } from "./start.ts";
import { type BatchShape, examplesHash, Steps, tokensOf } from "./steps.ts";

export interface Prepared {
  readonly checkpoint: Checkpoint;
  readonly config: DecoderConfig;
  /** Of the full-precision model that is distilled from; null without. */
  readonly teacher: Checkpoint | null;
  readonly start: Start;
  /** Full precision of the weights that train; null: they begin as they are packed. */
  readonly weightsFrom: Checkpoint | null;
  /** By file. */
  readonly data: readonly Dataset[];
  readonly training: readonly Example[];
  readonly validation: readonly Example[];
  readonly steps: Steps;
  readonly schedule: Schedule;
  readonly shape: BatchShape;
  /** Steps between two validations. */
  readonly evalEvery: number;
  /** What the person who runs this should know, in sentences. */
  readonly notes: readonly string[];
}

export function prepare(options: FinetuneOptions): Prepared {
  const { settings } = options;
  refuseInside(options.out, options.model);
  refuseExisting(options.out);
  const checkpoint = openCheckpoint(options.model);
  const config = parseConfig(checkpoint.config, `${options.model}/config.json`);
  if (settings.length > config.maxPositions) {
    throw new RangeError(
      `Cannot use --seq-len: received ${settings.length}, expected at most ${config.maxPositions}, which the model was made for`,
    );
  }
  const teacher = options.teacher === null ? null : openTeacher(options.teacher, options, config);
  const start = openStart(checkpoint, options.start, options.lora, settings.trainScales);
  if (settings.trainScales) checkScales(checkpoint, start, settings);
  const weightsFrom = settings.trainWeights ? openFirstWeights(options, teacher, config) : null;
  const { data, training, validation, notes } = readData(options, config);
  const steps = new Steps(training, settings);
  const schedule = {
    name: settings.schedule,
    warmupSteps: warmupSteps(settings.warmup, steps.total),
    steps: steps.total,
  };
  const most = Math.max(steps.mostTokens, ...validation.map(({ ids }) => ids.length));
  return {
    checkpoint,
    config,
    teacher,
    start,
    weightsFrom,
    data,
    training,
    validation,
    steps,
    schedule,
    shape: { sequences: settings.microBatch, length: Math.min(settings.length, most) },
    evalEvery: options.validation.every ?? steps.perEpoch,
    notes: [
      ...startNotes(start, checkpoint),
      ...(settings.trainWeights ? [firstWeightsNote(weightsFrom)] : []),
      ...notes,
      ...scheduleNotes(schedule),
    ],
  };
}

/** @throws where the model does not speak the student's tokens */
function openTeacher(dir: string, { model, settings }: FinetuneOptions, student: DecoderConfig): Checkpoint {
  const checkpoint = openCheckpoint(dir);
  const { vocabSize } = parseConfig(checkpoint.config, `${dir}/config.json`);
  const refuse = (reason: string): Error => new Error(`Cannot distil from ${dir}: ${reason}`);
  if (vocabSize !== student.vocabSize) {
    throw refuse(`its vocabulary has ${vocabSize} tokens, expected ${student.vocabSize} as ${model} has`);
  }
  if (hasTokenizer(dir) && !sameVocabulary(dir, model))
    throw refuse(`its tokenizer has other tokens than that of ${model}`);
  if (checkpoint.initAdapter) throw refuse("it has a calibrated LoRA, expected a full-precision model");
  if (settings.topK > vocabSize) {
    throw new RangeError(
      `Cannot use --top-k: received ${settings.topK}, expected at most ${vocabSize}, the vocabulary`,
    );
  }
  return checkpoint;
}

function sameVocabulary(a: string, b: string): boolean {
  const [left, right] = [a, b].map((dir) => openTokenizer(dir).vocabulary);
  return left!.length === right!.length && left!.every((token, id) => token === right![id]);
}

/** @throws where there are no scales, or LoRA that the new model could not hold */
function checkScales(
  { dir, quantization }: Checkpoint,
  { name, below }: Start,
  { trainWeights }: FinetuneOptions["settings"],
): void {
  const flag = trainWeights ? "--train-weights" : "--train-scales";
  if (quantization === undefined) throw new RangeError(`Cannot use ${flag}: the weights of ${dir} are not packed`);
  if (below === null) return;
  const reason = "the new model's calibrated LoRA is the one that is trained, and it would come on top of the old one";
  throw new RangeError(`Cannot use ${flag} with --start ${name}: ${reason}; give --start init`);
}

/** @throws where the folder that was asked for is of another architecture */
function openFirstWeights(
  { weightsFrom }: FinetuneOptions,
  teacher: Checkpoint | null,
  config: DecoderConfig,
): Checkpoint | null {
  if (weightsFrom === null) return teacher && otherArchitecture(teacher, config) === null ? teacher : null;
  const checkpoint = openCheckpoint(weightsFrom);
  const reason = otherArchitecture(checkpoint, config);
  if (reason === null) return checkpoint;
  throw new Error(`Cannot begin with the weights of ${weightsFrom}: ${reason}`);
}

function firstWeightsNote(from: Checkpoint | null): string {
  if (from !== null) return `Weights begin as those of ${from.dir}, where these round to the packed ones.`;
  return "Weights begin as they are packed; --weights-from DIR gives them full precision.";
}

/** A share of the steps is rounded up, as transformers does. */
function warmupSteps(warmup: number, steps: number): number {
  return warmup < 1 ? Math.ceil(warmup * steps) : warmup;
}

function readData({ model, data: given, validation, settings }: FinetuneOptions, { vocabSize }: DecoderConfig) {
  const tokenizer = openTokenizer(model);
  const { files, ...how } = given;
  const reading = { ...how, tokenizer, vocabSize, maxLength: settings.length };
  const data = readMixture(files, reading, settings.seed);
  checkHeldOut(validation, files);
  const other = validation.file === null ? [] : [readDataset({ ...reading, file: validation.file })];
  const { holdOut } = validation;
  const amount = holdOut < 1 ? { fraction: holdOut } : { count: holdOut };
  const split = splitValidation(
    data.flatMap(({ examples }) => examples),
    amount,
    settings.seed,
  );
  return {
    data,
    training: split.training,
    validation: other[0]?.examples ?? split.validation,
    notes: [...data, ...other].flatMap(dataNotes),
  };
}

/** @throws where examples that are held out would be trained on, as copies */
function checkHeldOut({ file, holdOut }: FinetuneOptions["validation"], files: readonly DataFile[]): void {
  if (file !== null || holdOut === 0) return;
  const paths = files.map(({ file }) => resolve(file));
  const twice = paths.find((path, i) => paths.indexOf(path) !== i);
  if (twice === undefined) return;
  throw new RangeError(
    `Cannot hold out examples of ${twice}: it is given twice, so their copies would be trained on; give --val-data FILE`,
  );
}

function dataNotes({ file, examples, skipped, truncated, dropped }: Dataset): string[] {
  const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
  const [first] = skipped;
  return [
    ...(first ? [`${counted(skipped.length, "row")} of ${file} left out, as asked; the first: ${first.reason}`] : []),
    ...(truncated > 0 ? [`${truncated} of ${counted(examples.length, "example")} of ${file} cut at --seq-len.`] : []),
    ...(dropped > 0 ? [`${counted(dropped, "example")} of ${file} left out: longer than --seq-len.`] : []),
  ];
}

function startNotes({ name, below }: Start, { dir }: Checkpoint): string[] {
  if (below === null) return [];
  return [`The LoRA from ${name} comes on top of the calibrated one of ${dir}, which stays as it is.`];
}

function scheduleNotes({ warmupSteps, steps }: Schedule): string[] {
  return warmupSteps < steps ? [] : [`The warm-up of ${warmupSteps} steps takes the whole run of ${steps}.`];
}

/** Everything that decides the result, flat: two runs with equal settings end with equal bytes. */
export function identityOf(options: FinetuneOptions, prepared: Prepared): JsonObject {
  const { checkpoint, start, shape, evalEvery, validation, training } = prepared;
  return {
    ...options.settings,
    start: start.name === "init" || start.name === "zero" ? start.name : adapterHash(start.from as AdapterSource),
    ...start.lora,
    teacher: prepared.teacher?.fingerprint ?? null,
    weightsFrom: prepared.weightsFrom?.fingerprint ?? null,
    model: checkpoint.fingerprint,
    data: examplesHash(training),
    examples: training.length,
    validation: validation.length === 0 ? null : examplesHash(validation),
    validationExamples: validation.length,
    evalEvery: validation.length === 0 ? null : evalEvery,
    rowLength: shape.length,
  };
}

function adapterHash({ dir }: AdapterSource): string {
  return createHash("sha256")
    .update(readFileSync(join(dir, "adapter_model.safetensors")))
    .digest("hex");
}

/** Tokens that go through the model in a step. */
export function stepTokens(prepared: Prepared, step: number): number {
  return tokensOf(prepared.steps.examples(step));
}

/** What goes through a teacher: the examples of all steps, in the order of the data, then those of validation. */
export function taughtExamples({ training, validation, steps }: Prepared): readonly Example[] {
  const seen = new Set<Example>();
  for (let step = 0; step < steps.total && seen.size < training.length; step++) {
    for (const example of steps.examples(step)) seen.add(example);
  }
  return [...training.filter((example) => seen.has(example)), ...validation];
}
