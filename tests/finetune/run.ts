/** Finetuning runs on tiny models, for the tests beside this file. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LoadedModel, loadModel } from "../../runtime/engine/loaded_model.ts";
import type { FinetuneOptions } from "../../runtime/finetune/options.ts";
import type { LogRecord } from "../../runtime/finetune/records.ts";
import { type FinetuneSettings, finetuneSettings } from "../../runtime/finetune/settings.ts";
import type { MethodSettings } from "../../runtime/quantize/method.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { calibrationText } from "../fixtures/dense_model.ts";
import { logitsOf } from "../golden/load.ts";
import { smallRun } from "../quantize/run.ts";

/** A folder that goes with the test. */
export function temporaryFolder(): { readonly dir: string } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), "apiq-finetune-"));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Tokens of an example. */
export const LENGTH = 48;

/** Settings that take a tiny model a second: 16 examples, 4 a step, two epochs. */
export const SMALL: Partial<FinetuneSettings> = {
  length: LENGTH,
  epochs: 2,
  batchSize: 4,
  learningRate: 3e-3,
  warmup: 1,
};

/** Options of a run over 16 blocks of text, written into `folder`. */
export function smallOptions(
  model: string,
  folder: string,
  given: Partial<FinetuneSettings> = {},
  more: Partial<FinetuneOptions> = {},
): FinetuneOptions {
  const file = join(folder, "data.txt");
  writeFileSync(file, calibrationText(16 * LENGTH));
  return {
    model,
    out: join(folder, "out"),
    data: {
      files: [{ file, amount: null }],
      format: "auto",
      template: "task",
      promptLoss: false,
      onBadRow: "fail",
      tooLong: "truncate",
    },
    validation: { file: null, holdOut: 0, every: null },
    start: null,
    lora: { rank: 4, alpha: 8 },
    teacher: null,
    weightsFrom: null,
    settings: finetuneSettings(null, { ...SMALL, ...given }),
    saveEvery: null,
    recompute: true,
    threads: 1,
    ...more,
  };
}

/** A packed model made of a dense one: `folder`/NAME. */
export async function packed(
  source: string,
  folder: string,
  method: string,
  given: Partial<MethodSettings> = {},
  name = "packed",
): Promise<string> {
  const out = join(folder, name);
  await quantize({ ...smallRun(source, folder, method, given), out, threads: 1 });
  return out;
}

/** The model as the server loads it, with the adapter "tuned" at slot 1. */
export function served(model: string, adapter?: string): LoadedModel {
  return loadModel({
    model,
    device: "cpu",
    threads: 1,
    contextLength: 256,
    maxSequences: 2,
    kvMemory: undefined,
    activations: "f32",
    adapters: adapter === undefined ? {} : { tuned: adapter },
  });
}

/** Mean -log p of the tokens behind the first, as the server computes it. */
export function servedLoss(model: string, adapter: string | undefined, ids: readonly number[]): number {
  using loaded = served(model, adapter);
  const vocab = loaded.config.vocabSize;
  const logits = logitsOf(loaded, ids, adapter === undefined ? -1 : 1);
  let sum = 0;
  for (let i = 0; i + 1 < ids.length; i++) {
    const row = logits.subarray(i * vocab, (i + 1) * vocab);
    const most = Math.max(...row);
    sum += Math.log(row.reduce((total, x) => total + Math.exp(x - most), 0)) + most - row[ids[i + 1]!]!;
  }
  return sum / (ids.length - 1);
}

/** What `smallOptions` trains on first. */
export function firstBlock(model: string): number[] {
  return openTokenizer(model)
    .encode(calibrationText(16 * LENGTH))
    .slice(0, LENGTH);
}

export function readLog(dir: string): LogRecord[] {
  const lines = readFileSync(join(dir, "train.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line)).filter(({ type }) => type === "step" || type === "eval");
}

/** All files under a folder with their bytes, but for the two that tell times. */
export function contents(dir: string): Map<string, Uint8Array> {
  const names = (readdirSync(dir, { recursive: true }) as string[]).sort();
  return new Map(
    names
      .filter((name) => statSync(join(dir, name)).isFile() && name !== "train.jsonl" && name !== "report.html")
      .map((name) => [name, new Uint8Array(readFileSync(join(dir, name)))]),
  );
}

/** What must be the same of two runs: losses, norms and rates of every step and validation. */
export function numbersOf(records: readonly LogRecord[]): object[] {
  return records.map((record) =>
    record.type === "step"
      ? { step: record.step, loss: record.loss, norm: record.norm, learningRate: record.learningRate }
      : { step: record.step, validation: record.loss },
  );
}
