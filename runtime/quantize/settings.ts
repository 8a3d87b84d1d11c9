/** What can be set about a run, its defaults and presets. */
import { BITS, GROUP_SIZES } from "../formats/gptq.ts";
import type { MethodOption, MethodSettings, QuantizationMethod } from "./method.ts";

/** Bits of embedding and head; 16 leaves them in the source's 16-bit type. */
export type EmbeddingBits = 16 | 8 | 4;
export const EMBEDDING_BITS: readonly EmbeddingBits[] = [16, 8, 4];

/** Which windows of the data become samples: the first ones in order, or a choice that depends on the seed. */
export type WindowChoice = "first" | "random";

export interface CalibrationSettings {
  /** Text, JSONL with {"text"} or JSONL with {"messages"}; null: the method needs none. */
  readonly data: string | null;
  readonly samples: number;
  /** Tokens of a sample. */
  readonly length: number;
  readonly windows: WindowChoice;
}

/**
 * Block-AP's published rates are 1e-5 to 2e-5, for thousands of steps on models of 7 billion weights and more (arXiv 2407.11062);
 * calibration here has hundreds, and at 5e-4 a block of a small model follows its target clearly better on text that it was not
 * calibrated on.
 */
const WEIGHT_LEARNING_RATE = 5e-4;

/**
 * Relative to each scale. Published is an absolute rate of 2e-5 for scales of 2 bits (arXiv 2407.11062), for models of 7 billion
 * weights and more and thousands of steps. With the hundreds here a small model needs more: SmolLM2-135M at 2 bits, trained on 24
 * windows of 256 tokens, goes on other text from 4.61 nats a token to 4.22 at 2e-3 and to 4.15 at 5e-3.
 */
const END_TO_END_LEARNING_RATE = 5e-3;

/** The paper's setting (arXiv 2402.05147, section 5): clipping and LoRA of each block, 20 epochs, no second target. */
export const PAPER: MethodSettings = {
  bits: 2,
  group: 64,
  rank: 64,
  alpha: 16,
  dora: false,
  epochs: 20,
  loraLearningRate: 5e-4,
  clippingLearningRate: 5e-3,
  weightLearningRate: WEIGHT_LEARNING_RATE,
  endToEndEpochs: 1,
  endToEndLearningRate: END_TO_END_LEARNING_RATE,
  schedule: "constant",
  weightDecay: 0.1,
  augLoss: false,
  damping: 0.01,
  iterations: 5,
  base: "affine",
  doubleQuantization: false,
  seed: 0,
};

/** What is taken where neither a flag nor --preset says otherwise. */
export const DEFAULTS: MethodSettings = { ...PAPER, augLoss: true };

export const PRESETS = { default: DEFAULTS, paper: PAPER } as const;
export type PresetName = keyof typeof PRESETS;

/** How each is given on the command line. */
export const OPTION_FLAGS: Readonly<Record<MethodOption, string>> = {
  bits: "--bits",
  group: "--group-size",
  rank: "--rank",
  alpha: "--alpha",
  dora: "--dora",
  epochs: "--epochs",
  loraLearningRate: "--lora-lr",
  clippingLearningRate: "--clipping-lr",
  weightLearningRate: "--weight-lr",
  endToEndEpochs: "--end-to-end-epochs",
  endToEndLearningRate: "--end-to-end-lr",
  schedule: "--lr-schedule",
  weightDecay: "--weight-decay",
  augLoss: "--aug-loss",
  damping: "--damping",
  iterations: "--iterations",
  base: "--base",
  doubleQuantization: "--double-quantization",
  init: "--init-from",
  bitsFor: "--bits-for",
};

export const CALIBRATION_DEFAULTS = { samples: 128, length: 2048, windows: "first" } as const;

/**
 * The preset with what was given instead.
 *
 * @param method whose own defaults the preset `default` takes
 * @throws {RangeError} for a number outside what a run can use, naming its flag
 */
export function methodSettings(
  preset: PresetName,
  given: Partial<MethodSettings>,
  method: Pick<QuantizationMethod, "defaults">,
): MethodSettings {
  const settings = { ...PRESETS[preset], ...(preset === "default" && method.defaults), ...withoutUndefined(given) };
  oneOf("--bits", settings.bits, BITS);
  oneOf("--group-size", settings.group, GROUP_SIZES);
  atLeast("--rank", settings.rank, 0);
  above("--alpha", settings.alpha, 0);
  atLeast("--epochs", settings.epochs, 1);
  atLeast("--lora-lr", settings.loraLearningRate, 0);
  atLeast("--clipping-lr", settings.clippingLearningRate, 0);
  atLeast("--weight-lr", settings.weightLearningRate, 0);
  atLeast("--end-to-end-epochs", settings.endToEndEpochs, 0);
  atLeast("--end-to-end-lr", settings.endToEndLearningRate, 0);
  atLeast("--weight-decay", settings.weightDecay, 0);
  atLeast("--damping", settings.damping, 0);
  if (settings.dora && settings.rank === 0)
    throw new RangeError("Cannot use --dora: received --rank 0, expected a rank");
  oneOf("--iterations", settings.iterations, [1, 2, 3, 4, 5]);
  return settings;
}

function withoutUndefined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

function oneOf(flag: string, received: number, expected: readonly number[]): void {
  if (!expected.includes(received)) {
    throw new RangeError(`Cannot use ${flag}: received ${received}, expected ${expected.join(", ")}`);
  }
}

function atLeast(flag: string, received: number, least: number): void {
  if (!Number.isFinite(received) || received < least)
    throw new RangeError(`Cannot use ${flag}: received ${received}, expected at least ${least}`);
}

function above(flag: string, received: number, bound: number): void {
  if (!Number.isFinite(received) || received <= bound)
    throw new RangeError(`Cannot use ${flag}: received ${received}, expected more than ${bound}`);
}
