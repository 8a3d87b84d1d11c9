/**
 * `bun scripts/recipes/embedded.ts --model DIR --work DIR`: makes the small packed model that is embedded, from the full-precision
 * model alone and the train splits of the shared data (embedded/recipe.ts says how). Takes many hours; however it was stopped, the
 * same command goes on. Exits with 1 where the model does not pass its gates.
 */
import { join, resolve } from "node:path";
import process from "node:process";
import type { Command, FlagValues } from "../../runtime/cli/command.ts";
import { COMPUTES } from "../../runtime/ops/training.ts";
import { FULL_BUDGET } from "./embedded/measure.ts";
import { type RecipeOptions, type RecipeSettings, runRecipe } from "./embedded/recipe.ts";
import { runCommand, runScript } from "./recipe_command.ts";

const ROOT = resolve(import.meta.dirname, "..", "..");

const FLAGS = {
  model: { type: "string", summary: "the full-precision chat model", placeholder: "DIR", required: true },
  work: {
    type: "string",
    summary: "where everything is made; the model is in its folder model",
    placeholder: "DIR",
    required: true,
  },
  shared: {
    type: "string",
    summary: "holds data/gsm8k, data/arithmetic and data/wikitext-2 (default ../shared)",
    placeholder: "DIR",
  },
  chats: { type: "string", summary: "FILE that self_chats.ts made, instead of making chats", placeholder: "FILE" },
  count: { type: "integer", summary: "chats to make; about one of ten is held out", default: 4000, min: 1 },
  heldOut: {
    type: "integer",
    summary: "held-out chats that the model is judged by",
    default: FULL_BUDGET.chats,
    min: 1,
  },
  rank: { type: "integer", summary: "rank of the LoRA", default: 16, min: 0 },
  bitsFor: {
    type: "string",
    summary: "linears that get other bits than 2, as apiq quantize takes it",
    placeholder: "PATTERN=BITS",
    multiple: true,
  },
  samples: { type: "integer", summary: "windows to calibrate on", default: 64, min: 1 },
  calibrationEpochs: { type: "integer", summary: "passes over them for each block", default: 8, min: 1 },
  epochs: { type: "integer", summary: "passes over the training data", default: 3, min: 1 },
  steps: { type: "integer", summary: "training steps, whatever --epochs says", min: 1 },
  batchSize: { type: "integer", summary: "examples of a step", default: 16, min: 1 },
  seqLen: { type: "integer", summary: "tokens of an example, and of a row of packed ones", default: 512, min: 16 },
  lr: { type: "number", summary: "learning rate of the LoRA", default: 3e-4, min: 0 },
  weightLr: { type: "number", summary: "of the weights", default: 2e-5, min: 0 },
  scaleLr: { type: "number", summary: "of scales, zeros and norms", default: 1e-3, min: 0 },
  gsm8k: { type: "integer", summary: "examples of gsm8k's train split", default: 2000, min: 1 },
  arithmetic: { type: "integer", summary: "examples of the arithmetic train split", default: 1000, min: 1 },
  compute: {
    type: "string",
    summary: "how training multiplies, as apiq finetune takes it",
    choices: COMPUTES,
    default: "f32",
  },
  evalEvery: { type: "integer", summary: "steps between two validations", default: 100, min: 1 },
  seed: { type: "integer", summary: "of everything random", default: 0, min: 0 },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
} as const;

type Flags = FlagValues<typeof FLAGS>;

const COMMAND: Command<typeof FLAGS> = {
  name: "embedded.ts",
  summary: "the embedded model, from the full-precision one",
  description: [
    "The model makes up chats; apiq quantize packs it into 2 bits with a small LoRA, calibrated on them and on text; apiq finetune",
    "trains packed weights, scales, norms and LoRA to say what the full-precision model says; then it is judged by what was held out.",
  ].join("\n"),
  flags: FLAGS,
  examples: ["bun scripts/recipes/embedded.ts --model smol-fp16 --work embedded"],
  async run({ flags, out, signal }) {
    const { model, work, shared, chats, threads } = flags;
    const passed = await runRecipe({
      model: resolve(model),
      data: join(resolve(shared ?? join(ROOT, "..", "shared")), "data"),
      work: resolve(work),
      chats: chats === undefined ? null : resolve(chats),
      settings: settingsOf(flags),
      threads,
      note: (text) => out.note(text),
      run: (program, args) => runScript(scriptOf(program), args, signal),
    });
    return passed ? 0 : 1;
  },
};

function settingsOf(flags: Flags): RecipeSettings {
  return {
    seed: flags.seed,
    chats: flags.count,
    rank: flags.rank,
    bitsFor: flags.bitsFor,
    calibration: { samples: flags.samples, length: flags.seqLen, epochs: flags.calibrationEpochs },
    training: {
      epochs: flags.epochs,
      steps: flags.steps ?? null,
      batchSize: flags.batchSize,
      microBatch: 1,
      length: flags.seqLen,
      learningRate: flags.lr,
      weightLearningRate: flags.weightLr,
      scaleLearningRate: flags.scaleLr,
      topK: 64,
      compute: flags.compute,
      evalEvery: flags.evalEvery,
      gsm8k: flags.gsm8k,
      arithmetic: flags.arithmetic,
    },
    gates: { ...FULL_BUDGET, chats: flags.heldOut },
  };
}

function scriptOf(program: Parameters<RecipeOptions["run"]>[0]): string {
  return program === "apiq" ? join(ROOT, "scripts", "apiq.ts") : join(import.meta.dirname, `${program}.ts`);
}

process.exit(await runCommand("scripts/recipes/embedded.ts", COMMAND));
