/** What can be set about a run, its defaults, and the paper's recipes. */
import { COMPUTES, type Compute } from "../ops/training.ts";
import { SCHEDULES, type ScheduleName } from "./schedule.ts";

/** What is learned: the data's tokens, or a full-precision model's distribution over them. */
export const OBJECTIVES = ["sft", "distill"] as const;
export type Objective = (typeof OBJECTIVES)[number];

/** Parts of a block that LoRA can be given to; module names end with them. */
export const TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;
export type Target = (typeof TARGETS)[number];

/** Names for several of them. */
const TARGET_GROUPS: Readonly<Record<string, readonly Target[]>> = {
  all: TARGETS,
  attention: ["q_proj", "k_proj", "v_proj", "o_proj"],
  mlp: ["gate_proj", "up_proj", "down_proj"],
};

export interface FinetuneSettings {
  readonly objective: Objective;
  readonly epochs: number;
  /** Ends the run earlier, or begins further epochs; null: `epochs` decide. */
  readonly maxSteps: number | null;
  /** Examples of a step. */
  readonly batchSize: number;
  /** Rows of `length` tokens that go through the model together. */
  readonly microBatch: number;
  /** Tokens of an example at most, and of the rows that examples are packed into. */
  readonly length: number;
  readonly learningRate: number;
  readonly schedule: ScheduleName;
  /** Below 1 a share of all steps, else steps. */
  readonly warmup: number;
  readonly weightDecay: number;
  /** Longest gradient that a step follows; 0: any. */
  readonly maxNorm: number;
  /** Of LoRA: how much of its input is left out while it trains. */
  readonly dropout: number;
  readonly targets: readonly Target[];
  /** Bits of AdamW's moments. */
  readonly optimizerBits: 32 | 8;
  /** How linears and heads multiply, the teacher's too. */
  readonly compute: Compute;
  /** Of the distillation loss (arXiv 1503.02531). */
  readonly temperature: number;
  /** Share of the data's own loss in the distillation loss. */
  readonly mix: number;
  /** Largest probabilities of the teacher that are kept of each token; the others count as one. */
  readonly topK: number;
  /** Whether the packed weights' scales and the norms train too, which makes another model. */
  readonly trainScales: boolean;
  /** Whether the packed weights themselves train too, through the rounding that makes them: then their scales do as well. */
  readonly trainWeights: boolean;
  /** Of scales, relative to each, and of zeros, in steps. */
  readonly scaleLearningRate: number;
  readonly weightLearningRate: number;
  readonly seed: number;
}

/** Of a LoRA that begins at zero. */
export interface LoraSettings {
  readonly rank: number;
  readonly alpha: number;
  readonly dora: boolean;
  readonly rsLora: boolean;
}

/**
 * As published for weights of 2 bits (EfficientQAT, arXiv 2407.11062; ParetoQ, arXiv 2502.02631). Too high a rate moves weights
 * over the ends of their rounding intervals by the noise of single steps: SmolLM2-135M at 2 bits, steps of 511 tokens, no warm-up,
 * KL from its teacher in steps 5, 6 and 7, each on another text:
 *
 *   0        0.402  0.345  0.392
 *   1e-4     0.403  0.347  0.395
 *   4e-4     0.493  0.687  0.732
 */
const WEIGHT_LEARNING_RATE = 2e-5;

export const DEFAULTS: FinetuneSettings = {
  objective: "sft",
  epochs: 3,
  maxSteps: null,
  batchSize: 16,
  microBatch: 1,
  length: 512,
  learningRate: 3e-4,
  schedule: "cosine",
  warmup: 0.03,
  weightDecay: 0.1,
  maxNorm: 1,
  dropout: 0,
  targets: TARGETS,
  optimizerBits: 32,
  compute: "f32",
  temperature: 1,
  mix: 0,
  topK: 64,
  trainScales: false,
  trainWeights: false,
  scaleLearningRate: 1e-3,
  weightLearningRate: WEIGHT_LEARNING_RATE,
  seed: 0,
};

export const LORA_DEFAULTS: LoraSettings = { rank: 64, alpha: 16, dora: false, rsLora: false };

const MULTITASK: Partial<FinetuneSettings> = {
  epochs: 3,
  batchSize: 16,
  learningRate: 3e-4,
  schedule: "linear",
  warmup: 0.1,
  weightDecay: 0,
  length: 512,
};

/** What the ApiQ paper's finetuning used (arXiv 2402.05147, section 5, and the scripts beside its code). */
export const RECIPES = {
  wikitext: {
    epochs: 3,
    batchSize: 64,
    learningRate: 3e-4,
    schedule: "cosine",
    warmup: 0.03,
    weightDecay: 0.1,
    length: 1024,
  },
  gsm8k: {
    epochs: 6,
    batchSize: 8,
    learningRate: 3e-4,
    schedule: "cosine",
    warmup: 0.03,
    weightDecay: 0.1,
    length: 512,
  },
  arithmetic: MULTITASK,
  commonsense: MULTITASK,
} as const satisfies Readonly<Record<string, Partial<FinetuneSettings>>>;
export type RecipeName = keyof typeof RECIPES;

/** How each is given on the command line. */
export const OPTION_FLAGS: Readonly<Record<keyof FinetuneSettings | keyof LoraSettings, string>> = {
  objective: "--objective",
  epochs: "--epochs",
  maxSteps: "--max-steps",
  batchSize: "--batch-size",
  microBatch: "--micro-batch",
  length: "--seq-len",
  learningRate: "--lr",
  schedule: "--lr-schedule",
  warmup: "--warmup",
  weightDecay: "--weight-decay",
  maxNorm: "--max-norm",
  dropout: "--dropout",
  targets: "--targets",
  optimizerBits: "--optimizer-bits",
  compute: "--compute",
  temperature: "--temperature",
  mix: "--mix",
  topK: "--top-k",
  trainScales: "--train-scales",
  trainWeights: "--train-weights",
  scaleLearningRate: "--scale-lr",
  weightLearningRate: "--weight-lr",
  seed: "--seed",
  rank: "--rank",
  alpha: "--alpha",
  dora: "--dora",
  rsLora: "--rslora",
};

/** Only heeded by distillation. */
const DISTILLATION = ["temperature", "mix", "topK"] as const;

/**
 * The recipe's settings, the defaults for what it leaves open, and what was given instead.
 *
 * @throws {RangeError} for a value that a run cannot use or would not heed, naming its flag
 */
export function finetuneSettings(recipe: RecipeName | null, given: Partial<FinetuneSettings>): FinetuneSettings {
  const settings: FinetuneSettings = {
    ...DEFAULTS,
    ...(recipe !== null && RECIPES[recipe]),
    ...withoutUndefined(given),
    trainScales: Boolean(given.trainScales || given.trainWeights),
  };
  count("epochs", settings.epochs);
  if (settings.maxSteps !== null) count("maxSteps", settings.maxSteps);
  count("batchSize", settings.batchSize);
  count("microBatch", settings.microBatch);
  count("length", settings.length, 2);
  within("learningRate", settings.learningRate, 0);
  oneOf("schedule", settings.schedule, SCHEDULES);
  within("warmup", settings.warmup, 0);
  within("weightDecay", settings.weightDecay, 0);
  within("maxNorm", settings.maxNorm, 0);
  within("dropout", settings.dropout, 0, 0.99);
  oneOf("optimizerBits", settings.optimizerBits, [32, 8]);
  oneOf("compute", settings.compute, COMPUTES);
  within("temperature", settings.temperature, 0.01, 100);
  within("mix", settings.mix, 0, 1);
  count("topK", settings.topK);
  within("scaleLearningRate", settings.scaleLearningRate, 0);
  within("weightLearningRate", settings.weightLearningRate, 0);
  if (settings.warmup >= 1 && !Number.isInteger(settings.warmup)) {
    refuse("warmup", settings.warmup, "a share below 1 or whole steps");
  }
  if (settings.objective === "sft") {
    for (const key of DISTILLATION) {
      if (given[key] !== undefined) refuseUnheeded(key, "--objective distill");
    }
  }
  if (!settings.trainScales && given.scaleLearningRate !== undefined) {
    refuseUnheeded("scaleLearningRate", "--train-scales");
  }
  if (!settings.trainWeights && given.weightLearningRate !== undefined) {
    refuseUnheeded("weightLearningRate", "--train-weights");
  }
  return settings;
}

/**
 * @param modelTrains whether something trains besides LoRA: then its rank may be 0, which is none
 * @throws {RangeError} for a value that LoRA cannot have
 */
export function loraSettings(given: Partial<LoraSettings>, modelTrains = false): LoraSettings {
  const settings = { ...LORA_DEFAULTS, ...withoutUndefined(given) };
  count("rank", settings.rank, modelTrains ? 0 : 1);
  if (!(Number.isFinite(settings.alpha) && settings.alpha > 0)) refuse("alpha", settings.alpha, "more than 0");
  return settings;
}

/**
 * "q_proj,v_proj", "attention" and the like as parts of a block, in the block's order.
 *
 * @throws {RangeError}
 */
export function parseTargets(text: string): readonly Target[] {
  const names = text.split(",").map((name) => name.trim());
  const known = [...Object.keys(TARGET_GROUPS), ...TARGETS];
  const bad = names.find((name) => !known.includes(name));
  if (bad !== undefined) refuse("targets", JSON.stringify(bad), `some of ${known.join(", ")}`);
  return TARGETS.filter((target) => names.some((name) => name === target || TARGET_GROUPS[name]?.includes(target)));
}

function withoutUndefined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

type Option = keyof typeof OPTION_FLAGS;

function refuse(option: Option, received: unknown, expected: string): never {
  throw new RangeError(`Cannot use ${OPTION_FLAGS[option]}: received ${received}, expected ${expected}`);
}

function refuseUnheeded(option: Option, needed: string): never {
  throw new RangeError(`Cannot use ${OPTION_FLAGS[option]} without ${needed}`);
}

/** @param most Infinity: no bound */
function within(option: Option, received: number, least: number, most: number = Number.POSITIVE_INFINITY): void {
  if (Number.isFinite(received) && received >= least && received <= most) return;
  refuse(option, received, most === Number.POSITIVE_INFINITY ? `at least ${least}` : `${least} to ${most}`);
}

function count(option: Option, received: number, least = 1): void {
  if (!Number.isSafeInteger(received) || received < least)
    refuse(option, received, `a whole number, at least ${least}`);
}

function oneOf(option: Option, received: unknown, expected: readonly unknown[]): void {
  if (!expected.includes(received)) refuse(option, received, expected.join(", "));
}
