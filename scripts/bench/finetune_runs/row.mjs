/** One row: evaluate the base, finetune it, evaluate it with the adapter. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describeHost, runApiq, runScript, shownCommand, subjectArgs, subjectPlaces } from "../apiq_command.mjs";
import { evaluatePerplexity, WINDOW } from "../quality/row.mjs";
import { openBase } from "./bases.mjs";
import { Phases } from "./phases.mjs";

/**
 * @typedef {object} Settings
 * @property {string} source the full-precision model
 * @property {readonly string[]} folders see bases.mjs
 * @property {string} data folder of the data sets
 * @property {string} work folder for what is made
 * @property {string} quality folder of the quality table's results
 * @property {number} windows of the perplexity
 * @property {number} threads 0: all
 * @property {boolean} resume continue what an earlier run of the row began
 * @property {boolean} keep leave the adapter in `work`
 * @property {(line: string) => void} onLine
 */

/**
 * @param {import("./matrix.mjs").Row} row
 * @param {Settings} settings
 * @returns {Promise<object>} the row's result as it is kept
 */
export async function runRow(row, settings) {
  const { base, task } = row;
  const machine = await describeHost(settings.threads);
  const model = await openBase(base, { ...settings, calibration: join(settings.data, "wikitext-2", "valid.txt") });
  const data = await prepareData(task, settings);
  const dir = join(settings.work, row.name);
  if (!settings.resume) rmSync(dir, { recursive: true, force: true });
  const identity = {
    ...{ fingerprint: model.fingerprint, flags: task.flags, evaluation: task.evaluation, windows: settings.windows },
    ...{ train: hashOf(data.train), test: hashOf(data.test) },
  };
  const phases = new Phases(dir, identity);
  const adapter = join(dir, "adapter");
  const before = await phases.once(
    "before",
    async () => measuredBefore(row, model, settings) ?? (await evaluate(row, model, undefined, data, settings)),
  );
  const training = await phases.once("training", () => finetune(row, model, adapter, data, settings));
  const after = await phases.once("after", () => evaluate(row, model, adapter, data, settings));
  if (!settings.keep) rmSync(dir, { recursive: true });
  const commands = [before, training, after].map(({ command }) => command);
  const [measured, made, remeasured] = [before, training, after].map(({ command: _, ...rest }) => rest);
  return {
    ...{ name: row.name, task: task.name, base: base.name, label: base.label, fingerprint: model.fingerprint },
    settings: { flags: task.flags, evaluation: task.evaluation },
    ...(data.counts && { data: data.counts }),
    ...{ before: measured, after: remeasured, training: made },
    machine,
    date: new Date().toISOString(),
    commands,
  };
}

/** Files of a task, and how command lines are to call them. */
async function prepareData(task, { data, work }) {
  const shared = (...path) => ({ file: join(data, ...path), shown: path.join("/") });
  if (task.name === "wikitext") {
    return { train: shared("wikitext-2", "valid.txt"), test: shared("wikitext-2", "test.txt"), counts: null };
  }
  if (task.name === "gsm8k") {
    return { train: shared("gsm8k", "train.jsonl"), test: shared("gsm8k", "test.jsonl"), counts: null };
  }
  const out = join(work, "data");
  const script = join(import.meta.dirname, "arithmetic_data.ts");
  const { answer: counts } = await runScript(script, [join(data, "arithmetic"), out]);
  const made = (name) => ({ file: join(out, name), shown: name });
  return { train: made("arithmetic.train.json"), test: made("arithmetic.test.json"), counts };
}

const hashOf = ({ file }) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** The base's perplexity, where the quality table has it of this very model and these windows; else null. */
export function measuredBefore({ base, task }, { fingerprint }, { quality, windows }) {
  if (task.evaluation.kind !== "perplexity") return null;
  const file = join(quality, `${base.name}.json`);
  if (!existsSync(file)) return null;
  const { ppl, nll, evaluation, commands, ...result } = JSON.parse(readFileSync(file, "utf8"));
  const isSame = result.fingerprint === fingerprint && evaluation.window === WINDOW && evaluation.windows === windows;
  return isSame ? { ppl, nll, ...evaluation, command: commands.at(-1) } : null;
}

function evaluate(row, model, adapter, data, settings) {
  const subject = { model: model.dir, name: model.name, adapter };
  return row.task.evaluation.kind === "perplexity"
    ? evaluatePerplexity(subject, { ...settings, test: data.test.file, limit: settings.windows })
    : evaluateAccuracy(row.task.evaluation, subject, data.test, settings);
}

async function evaluateAccuracy({ task, questions, maxTokens }, subject, test, { threads, onLine }) {
  const args = [
    ...["eval", "tasks", ...subjectArgs(subject), "--task", task, "--data", test.file],
    ...["--limit", String(questions), "--max-tokens", String(maxTokens)],
    // Three times as fast as float32, and what `apiq serve --activations int8` computes.
    ...["--activations", "int8", "--sequences", "32", "--threads", String(threads)],
  ];
  const { answer, cpuSeconds } = await runApiq(args, onLine);
  const places = new Map([...subjectPlaces(subject), [test.file, test.shown]]);
  return { ...answer, cpuSeconds, command: shownCommand(args, places) };
}

async function finetune({ task }, { dir, name }, out, { train }, { threads, onLine }) {
  const isContinued = existsSync(`${out}.partial`);
  rmSync(out, { recursive: true, force: true });
  const args = [
    ...["finetune", dir, "--data", train.file, "--recipe", task.name, ...task.flags],
    ...["--out", out, "--threads", String(threads)],
  ];
  const { answer, cpuSeconds, peakBytes } = await runApiq(args, onLine);
  const places = new Map([
    [dir, name],
    [train.file, train.shown],
    [out, "adapter"],
  ]);
  const { steps, parameters, tokens, firstLoss, lastLoss, tokensPerSecond, seconds } = answer;
  return {
    ...{ steps, parameters, answerTokens: tokens, firstLoss, lastLoss },
    validation: answer.firstValidation && { before: answer.firstValidation.loss, after: answer.best.loss },
    ...{ tokensPerSecond, seconds, cpuSeconds: isContinued ? null : cpuSeconds },
    peakBytes: Math.max(answer.peakBytes, peakBytes),
    command: shownCommand(args, places),
  };
}
