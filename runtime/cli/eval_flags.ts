/** What the `eval` commands have in common: flags, and how a model is opened for them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { type LoadedModel, loadModel } from "../engine/loaded_model.ts";
import { readJsonObject } from "../formats/json.ts";
import { parseConfig } from "../models/config.ts";
import { hasTokenizer, openTokenizer, type Tokenizer } from "../tokenizer/mod.ts";
import { MODE_NOTE, parseAdapterFolder } from "./adapter_flag.ts";
import type { FlagValues } from "./command.ts";
import type { Progress } from "./progress.ts";

export const MODEL_FLAGS = {
  model: { type: "string", summary: "model folder, packed or in 16 bits", placeholder: "DIR", required: true },
  adapter: { type: "string", summary: `PEFT adapter folder; ${MODE_NOTE}`, placeholder: "DIR" },
  activations: {
    type: "string",
    summary: "how packed linears treat their input",
    choices: ["auto", "int8", "f32"],
    default: "auto",
  },
  threads: { type: "integer", summary: "threads (0: all)", default: 0, min: 0, max: 1024 },
  json: { type: "boolean", summary: "print JSON" },
} as const;

export const WINDOW_FLAGS = {
  data: { type: "string", summary: "text file, read as one stream of tokens", placeholder: "FILE", required: true },
  window: { type: "integer", summary: "tokens in a window", default: 1024, min: 2, max: 2 ** 20 },
  limit: { type: "integer", summary: "use the first N windows only", min: 1 },
} as const;

export const ROW_FLAGS = {
  limit: { type: "integer", summary: "use the first N rows only", min: 1 },
  out: { type: "string", summary: "write each row's result as JSON lines", placeholder: "FILE" },
} as const;

/** The model's name for the engine's only adapter. */
export const ADAPTER = "adapter";

type ModelFlags = Pick<FlagValues<typeof MODEL_FLAGS>, "model" | "adapter" | "activations" | "threads">;

/** A model with its adapter; `adapterSlot` is -1 without one. By default the KV cache holds all sequences at full length. */
export function openForEval(
  flags: ModelFlags,
  size: { contextLength: number; maxSequences: number; kvMemory?: number | undefined },
): { loaded: LoadedModel; adapterSlot: number } {
  const adapter = flags.adapter === undefined ? undefined : parseAdapterFolder(flags.adapter);
  const loaded = loadModel({
    model: flags.model,
    device: "auto",
    threads: flags.threads,
    contextLength: size.contextLength,
    maxSequences: size.maxSequences,
    kvMemory: "kvMemory" in size ? size.kvMemory : Number.POSITIVE_INFINITY,
    activations: flags.activations,
    adapters: adapter ? { [ADAPTER]: adapter.dir } : {},
    adapterModes: adapter?.mode ? { [ADAPTER]: adapter.mode } : {},
  });
  return { loaded, adapterSlot: loaded.adapterSlots.get(ADAPTER) ?? -1 };
}

function maxPositions(dir: string): number {
  const file = join(dir, "config.json");
  return parseConfig(readJsonObject(file), file).maxPositions;
}

/** @throws Error when the model has fewer positions than a window has tokens */
export function checkWindow(dir: string, window: number): void {
  const most = maxPositions(dir);
  if (window > most)
    throw new Error(
      `Cannot evaluate ${dir}: --window received ${window}, expected at most ${most} (the model's positions)`,
    );
}

/** @throws Error naming the row whose tokens are more than the model has positions for */
export function checkLengths(dir: string, rows: readonly { where: string; tokens: number }[]): void {
  const most = maxPositions(dir);
  const tooLong = rows.find(({ tokens }) => tokens > most);
  if (tooLong) {
    const limit = `${most} (the model's positions)`;
    throw new Error(
      `Cannot use ${tooLong.where}: received ${tooLong.tokens} tokens with the answer, expected at most ${limit}`,
    );
  }
}

export function tokenizerOf(dir: string): Tokenizer {
  if (!existsSync(dir)) throw new Error(`Cannot evaluate ${dir}: it does not exist`);
  if (!hasTokenizer(dir)) throw new Error(`Cannot evaluate ${dir}: there is no tokenizer.json in it`);
  return openTokenizer(dir);
}

/** Draws the bar, and lets signals be handled; throws when one has come. */
export async function pause(signal: AbortSignal, bar: Progress, done: number, label?: string): Promise<void> {
  bar.update(done, label === undefined ? {} : { label });
  await setImmediate();
  if (signal.aborted) throw new Error("Interrupted: there is no result");
}
