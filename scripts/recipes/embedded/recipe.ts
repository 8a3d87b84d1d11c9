/**
 * The way to the embedded model, step by step. A step whose result is there is left out and one that was stopped goes on, so the
 * same recipe over the same folder continues however it ended.
 *
 *   recipe.json             settings, model and data: another recipe needs another folder
 *   chats.*.jsonl           what the model said to itself (self_chats.ts)
 *   data/                   chats to train on and to watch training by, and calibration data
 *   quantized/              after `apiq quantize`
 *   trained/                after `apiq finetune`, with its log and curves
 *   model/                  what is to be embedded
 *   gates.json              what it is judged by (embedded_gates.ts)
 */
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readText } from "../../../runtime/eval/text_file.ts";
import { writeJson } from "../../../runtime/formats/atomic.ts";
import { canonicalJson } from "../../../runtime/formats/json.ts";
import { openTokenizer } from "../../../runtime/tokenizer/mod.ts";
import type { Chat } from "../self_chats/held_out.ts";
import { type Budget, enoughChats } from "./measure.ts";
import { calibrationRows, checkTrainingData, readChats, splitForValidation, writeRows } from "./training_data.ts";

/** Everything that decides the result, besides the model, the data and the chats. */
export interface RecipeSettings {
  readonly seed: number;
  /** Conversations that the model makes up. */
  readonly chats: number;
  /** Of the LoRA, and its alpha. */
  readonly rank: number;
  /** PATTERN=BITS for linears that get other bits than 2. */
  readonly bitsFor: readonly string[];
  readonly calibration: { readonly samples: number; readonly length: number; readonly epochs: number };
  readonly training: {
    readonly epochs: number;
    /** null: as `epochs` say. */
    readonly steps: number | null;
    readonly batchSize: number;
    readonly microBatch: number;
    readonly length: number;
    readonly learningRate: number;
    readonly weightLearningRate: number;
    readonly scaleLearningRate: number;
    readonly topK: number;
    readonly compute: string;
    readonly evalEvery: number;
    /** Examples of the train splits. */
    readonly gsm8k: number;
    readonly arithmetic: number;
  };
  readonly gates: Budget;
}

export interface RecipeOptions {
  /** The full-precision model. */
  readonly model: string;
  /** The shared data's folder. */
  readonly data: string;
  readonly work: string;
  /** Chats that are there already: the FILE of self_chats.ts; null: they are made. */
  readonly chats: string | null;
  readonly settings: RecipeSettings;
  readonly threads: number;
  readonly note: (text: string) => void;
  /** Runs apiq or a recipe in a process of its own; resolves to its exit code. */
  readonly run: (program: "apiq" | "self_chats" | "embedded_gates", args: readonly string[]) => Promise<number>;
}

/** Of a run, not of the model. */
const LOGS = ["train.jsonl", "report.html"];

/** What self_chats.ts writes last. */
const LAST_CHATS = "chats.held-out.jsonl";

/** @returns whether the model passes its gates */
export async function runRecipe(options: RecipeOptions): Promise<boolean> {
  const { work } = options;
  mkdirSync(work, { recursive: true });
  await checkSettings(options);
  const step = async (name: string, make: () => Promise<void>): Promise<void> => {
    if (existsSync(join(work, name))) return options.note(`${name} is there.`);
    options.note(`making ${name}`);
    await make();
  };
  if (options.chats === null) await step(LAST_CHATS, () => makeChats(options));
  await step("data", () => makeData(options));
  await step("quantized", () => quantize(options));
  await step("trained", () => train(options));
  await step("model", async () => strip(join(work, "trained"), join(work, "model")));
  await step("gates.json", () => judge(options));
  const { passed } = JSON.parse(readFileSync(join(work, "gates.json"), "utf8")) as { passed: Record<string, boolean> };
  return Object.values(passed).every(Boolean);
}

/** @throws where the folder was begun with other settings */
async function checkSettings({ work, settings, model, data, chats }: RecipeOptions): Promise<void> {
  const file = join(work, "recipe.json");
  const now = { ...settings, model, data, chatsFrom: chats };
  if (!existsSync(file)) return await writeJson(file, now);
  if (canonicalJson(JSON.parse(readFileSync(file, "utf8"))) === canonicalJson(now)) return;
  throw new Error(`Cannot continue in ${work}: it was begun with the settings in ${file}; give another --work`);
}

async function must(options: RecipeOptions, program: Parameters<RecipeOptions["run"]>[0], flags: Flags): Promise<void> {
  const code = await options.run(program, argumentsOf({ ...flags, threads: options.threads }));
  if (code !== 0) throw new Error(`Cannot go on: ${program} ended with ${code}; the same command continues`);
}

/** By name without dashes; true: a switch; a list: repeated; undefined: not given. `command` are words before the flags. */
type Flags = Readonly<Record<string, string | number | true | readonly string[] | undefined>>;

function argumentsOf({ command, ...flags }: Flags): string[] {
  const words = Array.isArray(command) ? command : [];
  const given = Object.entries(flags).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (value === true) return [`--${name}`];
    return (Array.isArray(value) ? value : [value]).flatMap((each) => [`--${name}`, `${each}`]);
  });
  return [...words, ...given];
}

/** FILE of self_chats.ts without its ending. */
function chatsStem({ chats, work }: RecipeOptions): string {
  return (chats ?? join(work, "chats.jsonl")).replace(/\.jsonl$/, "");
}

async function makeChats(options: RecipeOptions): Promise<void> {
  const { model, settings, work } = options;
  const { chats: count, seed, gates } = settings;
  await must(options, "self_chats", { model, out: join(work, "chats.jsonl"), count, seed, "held-out": gates.chats });
}

function sharedFiles({ data }: RecipeOptions) {
  return {
    gsm8k: join(data, "gsm8k", "train.jsonl"),
    arithmetic: join(data, "arithmetic", "train.json"),
    text: join(data, "wikitext-2", "valid.txt"),
    test: join(data, "wikitext-2", "test.txt"),
  };
}

async function makeData(options: RecipeOptions): Promise<void> {
  const { model, work, settings, note } = options;
  const { training, validation } = splitForValidation(readChats(`${chatsStem(options)}.train.jsonl`));
  const { text } = sharedFiles(options);
  const partial = join(work, "data.partial");
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial);
  await writeRows(join(partial, "chats.jsonl"), training);
  await writeRows(join(partial, "validation.jsonl"), validation);
  const rows = calibrationRows(openTokenizer(model), training, readText(text));
  await writeRows(join(partial, "calibration.jsonl"), rows);
  const heldOut = checkData(options, partial);
  enoughChats(heldOut, settings.gates);
  note(`${training.length} chats to train on, ${validation.length} to watch, ${heldOut.length} held out`);
  renameSync(partial, join(work, "data"));
}

/** @returns the held-out chats, none of which is in `made`, a folder of chats and calibration data, or in the shared files */
function checkData(options: RecipeOptions, made: string): readonly Chat[] {
  const { gsm8k, arithmetic, text } = sharedFiles(options);
  const chats = ["chats.jsonl", "validation.jsonl"].map((name) => join(made, name));
  const rows = [gsm8k, arithmetic, join(made, "calibration.jsonl")];
  const heldOut = readChats(`${chatsStem(options)}.held-out.jsonl`);
  checkTrainingData({ chats, rows, texts: [text] }, heldOut);
  return heldOut;
}

async function quantize(options: RecipeOptions): Promise<void> {
  const { model, work, settings } = options;
  const { rank, bitsFor, calibration, seed } = settings;
  await must(options, "apiq", {
    command: ["quantize", model],
    out: join(work, "quantized"),
    method: "apiq-bw",
    bits: 2,
    "group-size": 64,
    rank,
    alpha: Math.max(1, rank),
    "bits-for": bitsFor,
    "embed-bits": 4,
    data: join(work, "data", "calibration.jsonl"),
    windows: "random",
    samples: calibration.samples,
    "seq-len": calibration.length,
    epochs: calibration.epochs,
    seed,
  });
}

async function train(options: RecipeOptions): Promise<void> {
  const { model, work, settings } = options;
  const { training, seed } = settings;
  const { gsm8k, arithmetic, text } = sharedFiles(options);
  // The shared files can have changed since `data` was made.
  checkData(options, join(work, "data"));
  await must(options, "apiq", {
    command: ["finetune", join(work, "quantized")],
    out: join(work, "trained"),
    "train-weights": true,
    rank: settings.rank === 0 ? 0 : undefined,
    teacher: model,
    data: [
      join(work, "data", "chats.jsonl"),
      `${gsm8k}@${training.gsm8k}`,
      `${arithmetic}@${training.arithmetic}`,
      text,
    ],
    "val-data": join(work, "data", "validation.jsonl"),
    "eval-every": training.evalEvery,
    template: "chat",
    "prompt-loss": true,
    "seq-len": training.length,
    "batch-size": training.batchSize,
    "micro-batch": training.microBatch,
    epochs: training.epochs,
    "max-steps": training.steps ?? undefined,
    lr: training.learningRate,
    "weight-lr": training.weightLearningRate,
    "scale-lr": training.scaleLearningRate,
    "top-k": training.topK,
    compute: training.compute,
    "no-recompute": true,
    seed,
  });
}

/** The folder without what tells of its run. */
function strip(from: string, to: string): void {
  const partial = `${to}.partial`;
  rmSync(partial, { recursive: true, force: true });
  cpSync(from, partial, { recursive: true, filter: (path) => !LOGS.some((name) => path === join(from, name)) });
  renameSync(partial, to);
}

async function judge(options: RecipeOptions): Promise<void> {
  const { model, work, settings, threads, note } = options;
  const { chats, answerTokens, chatTokens, windows, windowTokens } = settings.gates;
  const flags = {
    model: [join(work, "quantized"), join(work, "model")],
    reference: model,
    "held-out": `${chatsStem(options)}.held-out.jsonl`,
    text: sharedFiles(options).test,
    out: join(work, "gates.json"),
    ...{ chats, windows, threads },
    ...{ "answer-tokens": answerTokens, "chat-tokens": chatTokens, "window-tokens": windowTokens },
  };
  const code = await options.run("embedded_gates", argumentsOf(flags));
  if (!existsSync(flags.out)) throw new Error(`Cannot judge the model: embedded_gates ended with ${code}`);
  note(code === 0 ? "The model passes its gates." : "The model does not pass all of its gates.");
}
