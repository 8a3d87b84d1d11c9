import { existsSync } from "node:fs";
import { DATASET_FORMATS, parseDataFile } from "../../finetune/data/mod.ts";
import { finetune } from "../../finetune/finetune.ts";
import type { FinetuneOptions, FinetuneResult } from "../../finetune/options.ts";
import { type FinetunePlan, planFinetuning } from "../../finetune/plan.ts";
import { SCHEDULES } from "../../finetune/schedule.ts";
import {
  DEFAULTS,
  type FinetuneSettings,
  finetuneSettings,
  LORA_DEFAULTS,
  OBJECTIVES,
  parseTargets,
  RECIPES,
  type RecipeName,
  TARGETS,
} from "../../finetune/settings.ts";
import { COMPUTES } from "../../ops/training.ts";
import { isAbort } from "../../quantize/failures.ts";
import { partialPath } from "../../quantize/partial_folder.ts";
import { defineCommand, type FlagValues, UsageError } from "../command.ts";
import { FinetuneProgress } from "../finetune_progress.ts";
import { formatBytes, formatDuration, formatNumber } from "../format.ts";
import { EXIT_INTERRUPTED } from "../main.ts";
import type { Output } from "../output.ts";

const about = (summary: string, value: unknown): string => `${summary} (default ${value})`;

/** Without `default`: what is not given comes from --recipe. */
const FLAGS = {
  data: {
    type: "string",
    summary: "what to train on, of several files together; FILE@500 takes 500 examples of it, FILE@0.1 a tenth",
    placeholder: "FILE",
    required: true,
    multiple: true,
  },
  out: { type: "string", summary: "folder to make", placeholder: "DIR", required: true },
  recipe: {
    type: "string",
    summary: "where settings come from that are not given: the paper's for these data sets",
    choices: Object.keys(RECIPES),
  },
  format: { type: "string", summary: "how to read --data", choices: ["auto", ...DATASET_FORMATS], default: "auto" },
  template: {
    type: "string",
    summary: "questions are asked as `apiq eval tasks` does, or in the model's chat template",
    choices: ["task", "chat"],
    default: "task",
  },
  promptLoss: { type: "boolean", summary: "learn prompts too, not answers only" },
  badRows: {
    type: "string",
    summary: "a row that cannot be used ends the run, or is left out and named",
    choices: ["fail", "skip"],
    default: "fail",
  },
  tooLong: {
    type: "string",
    summary: "an example longer than --seq-len loses its end, or is left out",
    choices: ["truncate", "drop"],
    default: "truncate",
  },
  val: {
    type: "number",
    summary: "examples held out for validation: a share below 1, or how many",
    default: 0,
    min: 0,
  },
  valData: { type: "string", summary: "validate on this file instead", placeholder: "FILE" },
  evalEvery: { type: "integer", summary: "steps between two validations (default an epoch)", min: 1 },
  start: {
    type: "string",
    summary:
      "where LoRA begins: init (the model's own), zero, or an adapter's folder (default init, or zero without one)",
    placeholder: "init|zero|DIR",
  },
  rank: {
    type: "integer",
    summary: about("rank of LoRA, from zero; 0 for none where the model trains", LORA_DEFAULTS.rank),
  },
  alpha: { type: "number", summary: about("its scale is alpha / rank", LORA_DEFAULTS.alpha) },
  dora: { type: "boolean", summary: "DoRA: learn the norms of rows too", undecided: true },
  rslora: { type: "boolean", summary: "rsLoRA: the scale is alpha / sqrt(rank)", undecided: true },
  targets: {
    type: "string",
    summary: `linears that train: all, attention, mlp, or some of ${TARGETS.join(",")} (default all)`,
    placeholder: "NAMES",
  },
  dropout: { type: "number", summary: about("share of LoRA's input left out in a step", DEFAULTS.dropout) },
  epochs: { type: "integer", summary: about("passes over the data", DEFAULTS.epochs) },
  maxSteps: { type: "integer", summary: "steps to make, whatever --epochs says" },
  batchSize: { type: "integer", summary: about("examples of a step", DEFAULTS.batchSize) },
  microBatch: {
    type: "integer",
    summary: about("rows of --seq-len tokens that go through together", DEFAULTS.microBatch),
  },
  seqLen: { type: "integer", summary: about("tokens of an example, and of a row of packed ones", DEFAULTS.length) },
  lr: { type: "number", summary: about("learning rate", DEFAULTS.learningRate) },
  lrSchedule: { type: "string", summary: about("how it falls", DEFAULTS.schedule), choices: SCHEDULES },
  warmup: { type: "number", summary: about("how it rises: a share of all steps below 1, or steps", DEFAULTS.warmup) },
  weightDecay: { type: "number", summary: about("weight decay", DEFAULTS.weightDecay) },
  maxNorm: { type: "number", summary: about("longest gradient that a step follows; 0: any", DEFAULTS.maxNorm) },
  optimizerBits: { type: "integer", summary: about("bits of AdamW's moments: 32 or 8", DEFAULTS.optimizerBits) },
  compute: {
    type: "string",
    summary: about("linears multiply in float32, or faster in bfloat16 with float32 sums", DEFAULTS.compute),
    choices: COMPUTES,
  },
  objective: {
    type: "string",
    summary: "learn the data, or a teacher's distribution over it (default distill with --teacher)",
    choices: OBJECTIVES,
  },
  teacher: { type: "string", summary: "folder of the full-precision model", placeholder: "DIR" },
  temperature: { type: "number", summary: about("distill: of both distributions", DEFAULTS.temperature) },
  mix: { type: "number", summary: about("distill: share of the data's own loss", DEFAULTS.mix) },
  topK: { type: "integer", summary: about("distill: the teacher's tokens kept of each distribution", DEFAULTS.topK) },
  trainScales: { type: "boolean", summary: "train the scales of packed weights and the norms too; makes a model" },
  trainWeights: {
    type: "boolean",
    summary: "train the packed weights themselves, their scales, zeros and the norms too; makes a model",
  },
  weightsFrom: {
    type: "string",
    summary:
      "full-precision model whose weights they begin as (default --teacher where it is of the same architecture)",
    placeholder: "DIR",
  },
  scaleLr: {
    type: "number",
    summary: about("learning rate of scales, relative to each, and of norms and zeros", DEFAULTS.scaleLearningRate),
  },
  weightLr: { type: "number", summary: about("learning rate of weights that train", DEFAULTS.weightLearningRate) },
  recompute: {
    type: "boolean",
    undecided: true,
    summary: "run each block again in the backward pass; without, faster and in more memory (default on)",
  },
  saveEvery: { type: "integer", summary: "steps between two states on disk (default about two minutes)", min: 1 },
  seed: { type: "integer", summary: about("of everything random", DEFAULTS.seed), min: 0 },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
  dryRun: { type: "boolean", summary: "check everything, tell memory and time, and write nothing" },
  json: { type: "boolean", summary: "print JSON" },
} as const;

type Flags = FlagValues<typeof FLAGS>;

export const finetuneCommand = defineCommand({
  name: "finetune",
  summary: "train LoRA on a model's packed weights, or the weights, with data or a teacher",
  description: [
    "MODEL's folder stays as it is, and its weights stay packed unless they train. FILE holds chats ({messages}), instructions",
    "({instruction, input, output}), questions ({question, answer}) or texts ({text}), one JSON object a line or all in an array, or",
    "is plain text. DIR becomes an adapter that apiq serve and peft load, or with --train-scales and --train-weights another model;",
    "DIR.partial holds the run's state until then, and the same command continues from it, to the same bytes, however the run",
    "ended. train.jsonl and report.html say how it went.",
  ].join("\n"),
  positionals: [{ name: "MODEL", summary: "folder of the model", required: true }],
  flags: FLAGS,
  examples: [
    "apiq finetune model-2bit --data train.jsonl --recipe gsm8k --out adapter",
    "apiq finetune model-2bit --data chats.jsonl --val 0.05 --lr 1e-4 --out adapter",
    "apiq finetune model-2bit --data text.txt --teacher model --seq-len 1024 --out adapter",
    "apiq finetune model-2bit --data chats.jsonl --data text.txt@500 --train-weights --teacher model --out better-2bit",
  ],
  async run({ flags, positionals, out, signal }) {
    const options = optionsOf(positionals[0]!, flags, signal);
    try {
      if (flags.dryRun) {
        const plan = await planFinetuning(options);
        if (flags.json) out.json(plan);
        else printPlan(plan, out);
        return 0;
      }
      const result = await withProgress(options, out);
      if (flags.json) out.json(result);
      else printResult(result, options, out);
      return 0;
    } catch (error) {
      if (error instanceof RangeError) throw new UsageError(error.message);
      if (!isAbort(error)) throw error;
      const dir = partialPath(options.out);
      const kept = existsSync(`${dir}/checkpoint.safetensors`);
      out.note(
        `Stopped. ${kept ? `The state is kept in ${dir}: the same command continues.` : "No step was finished."}`,
      );
      return EXIT_INTERRUPTED;
    }
  },
});

function optionsOf(model: string, flags: Flags, signal: AbortSignal): FinetuneOptions {
  if (flags.out === "") throw new UsageError("Cannot use --out: received nothing, expected a folder to make");
  return {
    model,
    // Without slashes at its end: beside it there will be a folder with the same name and ".partial".
    out: flags.out.replace(/(?<=.)\/+$/, ""),
    data: {
      files: usable(() => flags.data.map(parseDataFile)),
      format: flags.format,
      template: flags.template,
      promptLoss: flags.promptLoss,
      onBadRow: flags.badRows,
      tooLong: flags.tooLong,
    },
    validation: { file: flags.valData ?? null, holdOut: holdOut(flags), every: flags.evalEvery ?? null },
    start: flags.start ?? null,
    lora: { rank: flags.rank, alpha: flags.alpha, dora: flags.dora, rsLora: flags.rslora },
    teacher: flags.teacher ?? null,
    weightsFrom: weightsFrom(flags),
    settings: settingsOf(flags),
    saveEvery: flags.saveEvery ?? null,
    recompute: flags.recompute ?? true,
    threads: flags.threads,
    signal,
  };
}

function holdOut({ val, valData, evalEvery }: Flags): number {
  if (val >= 1 && !Number.isInteger(val)) {
    throw new UsageError(`Cannot use --val: received ${val}, expected a share below 1 or a whole number`);
  }
  if (val > 0 && valData !== undefined) throw new UsageError("expected --val or --val-data, not both");
  if (evalEvery !== undefined && val === 0 && valData === undefined) {
    throw new UsageError("Cannot use --eval-every without --val or --val-data");
  }
  return val;
}

function weightsFrom({ weightsFrom, trainWeights }: Flags): string | null {
  if (weightsFrom !== undefined && !trainWeights)
    throw new UsageError("Cannot use --weights-from without --train-weights");
  return weightsFrom ?? null;
}

function settingsOf(flags: Flags): FinetuneSettings {
  const objective = flags.objective ?? (flags.teacher === undefined ? "sft" : "distill");
  if ((objective === "distill") !== (flags.teacher !== undefined)) {
    throw new UsageError("expected --objective distill and --teacher DIR together");
  }
  const given: Partial<FinetuneSettings> = {
    objective,
    epochs: flags.epochs,
    maxSteps: flags.maxSteps,
    batchSize: flags.batchSize,
    microBatch: flags.microBatch,
    length: flags.seqLen,
    learningRate: flags.lr,
    schedule: flags.lrSchedule,
    warmup: flags.warmup,
    weightDecay: flags.weightDecay,
    maxNorm: flags.maxNorm,
    dropout: flags.dropout,
    optimizerBits: flags.optimizerBits as 32 | 8 | undefined,
    compute: flags.compute,
    temperature: flags.temperature,
    mix: flags.mix,
    topK: flags.topK,
    trainScales: flags.trainScales,
    trainWeights: flags.trainWeights,
    scaleLearningRate: flags.scaleLr,
    weightLearningRate: flags.weightLr,
    seed: flags.seed,
  };
  return usable(() => {
    const targets = flags.targets === undefined ? undefined : parseTargets(flags.targets);
    return finetuneSettings((flags.recipe as RecipeName | undefined) ?? null, { ...given, targets });
  });
}

function usable<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof RangeError ? new UsageError(error.message) : error;
  }
}

async function withProgress(options: FinetuneOptions, out: Output): Promise<FinetuneResult> {
  using progress = new FinetuneProgress(out, partialPath(options.out));
  return await finetune(options, progress);
}

/** 1, "step" -> "1 step" */
function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function printPlan(plan: FinetunePlan, out: Output): void {
  for (const note of plan.notes) out.note(note);
  const { batch, diskFreeBytes } = plan;
  const held = plan.validationExamples > 0 ? `, ${plan.validationExamples} for validation` : "";
  const formats = [...new Set(plan.files.map(({ format }) => format))].join(", ");
  out.line(`data        ${plan.examples} examples (${formats}), ${plan.tokens} tokens${held}`);
  if (plan.files.length > 1) for (const { file, examples } of plan.files) out.line(`  ${examples} of ${file}`);
  out.line(`steps       ${plan.steps} in ${count(plan.epochs, "epoch")}, ${plan.warmupSteps} of warm-up`);
  out.line(`batch       ${batch.sequences} x ${batch.length} tokens at a time`);
  const role = plan.replaces ? "; the result replaces the calibrated one" : "";
  out.line(`LoRA        ${plan.parameters} values, from ${plan.start}${role}`);
  out.line(`memory      ${formatBytes(plan.memoryBytes)}, measured on one batch; counted are`);
  for (const { part, bytes } of plan.memory) out.line(`  ${formatBytes(bytes).padStart(9)} ${part}`);
  const free = diskFreeBytes === null ? "" : `, ${formatBytes(diskFreeBytes)} are free`;
  out.line(`disk        about ${formatBytes(plan.diskBytes)} for the state and the result${free}`);
  out.line(`time        about ${formatDuration(plan.seconds)}, ${formatDuration(plan.secondsPerStep)} a step`);
}

function printResult(result: FinetuneResult, { model }: FinetuneOptions, out: Output): void {
  const { steps, tokens, tokensPerSecond, seconds, peakBytes, firstLoss, lastLoss, firstValidation, best } = result;
  const number = (value: number): string => formatNumber(value, 4);
  out.line(
    `${result.out}: ${count(steps, "step")}, ${tokens} tokens, loss ${number(firstLoss)} -> ${number(lastLoss)}`,
  );
  if (firstValidation && best) {
    out.line(
      `validation loss ${number(firstValidation.loss)} -> ${number(best.loss)}, after step ${best.step}, which is kept`,
    );
  }
  const cost = `${formatNumber(tokensPerSecond)} tokens/s, at most ${formatBytes(peakBytes)} of memory`;
  out.line(`${formatDuration(seconds)}, ${cost}; report: ${result.out}/report.html`);
  const next = result.kind === "model" ? quoted(result.out) : `${quoted(model)} --adapter NAME=${quoted(result.out)}`;
  out.line(`Next: apiq serve --model ${next}`);
}

function quoted(path: string): string {
  return /^[\w./+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
