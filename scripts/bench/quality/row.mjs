/** One row: quantize, measure what is stored, evaluate. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describeHost, runApiq, shownCommand, subjectArgs, subjectPlaces } from "../apiq_command.mjs";
import { MODEL } from "../smollm2.mjs";
import { measureStorage } from "./storage.mjs";

export const WINDOW = 1024;
/** Of the evaluation. */
export const WINDOWS = 40;

/**
 * @typedef {object} Settings
 * @property {string} source the full-precision model
 * @property {string} work folder for what is made
 * @property {string} calibration text file
 * @property {string} test text file
 * @property {number} limit windows of the evaluation
 * @property {number} threads 0: all
 * @property {boolean} resume continue what an earlier run of the row began, instead of beginning again
 * @property {boolean} keep leave the model in `work`
 * @property {(line: string) => void} onLine
 */

/**
 * @param {import("./matrix.mjs").Row} row
 * @param {Settings} settings
 * @returns {Promise<object>} the row's result as it is kept
 */
export async function runRow(row, settings) {
  const machine = await describeHost(settings.threads);
  const out = join(settings.work, row.name);
  const quantized = row.method === null ? null : await quantize(row, out, settings);
  const model = quantized === null ? settings.source : out;
  const fingerprint = await fingerprintOf(model);
  const evaluation = await evaluatePerplexity({ model, name: quantized === null ? MODEL : row.name }, settings);
  const storage = measureStorage(model, settings.source);
  if (quantized !== null && !settings.keep) rmSync(out, { recursive: true });
  const { name, variant, label, method, bits, group, seed, calibrated, samples, length, epochs, flags } = row;
  return {
    ...{ name, variant, label, method, bits, group, rank: storage.rank, seed, fingerprint },
    settings: { ...(calibrated && { samples, length }), ...(epochs !== null && { epochs }), flags },
    ppl: evaluation.ppl,
    nll: evaluation.nll,
    evaluation: { window: WINDOW, windows: evaluation.windows, tokens: evaluation.tokens, seconds: evaluation.seconds },
    seconds: quantized?.seconds ?? null,
    peakBytes: quantized?.peakBytes ?? null,
    ...{ bitsPerWeight: storage.bitsPerWeight, baseBitsPerWeight: storage.baseBitsPerWeight },
    loraBitsPerWeight: storage.loraBitsPerWeight,
    machine,
    date: new Date().toISOString(),
    commands: [...(quantized === null ? [] : [quantized.command]), evaluation.command],
  };
}

/** What tells a model from every other one: see docs/FORMAT.md. */
export async function fingerprintOf(model) {
  const { answer } = await runApiq(["inspect", model], () => {});
  return answer.fingerprint;
}

/**
 * Makes the model of a row.
 *
 * @param {import("./matrix.mjs").Row} row one with a method
 * @param {string} out folder to make
 * @param {Pick<Settings, "source" | "work" | "calibration" | "threads" | "resume" | "onLine">} settings
 * @returns {Promise<{ command: string, seconds: number, peakBytes: number }>}
 */
export async function quantize(row, out, { source, work, calibration, threads, resume, onLine }) {
  // A model that was finished and never evaluated says nothing about its time.
  rmSync(out, { recursive: true, force: true });
  if (!resume) rmSync(`${out}.partial`, { recursive: true, force: true });
  const args = [
    ...["quantize", source, "--out", out, "--method", row.method],
    ...["--bits", String(row.bits), "--group-size", String(row.group), "--seed", String(row.seed)],
    ...(row.calibrated
      ? ["--data", calibration, "--samples", String(row.samples), "--seq-len", String(row.length)]
      : []),
    ...(row.epochs === null ? [] : ["--epochs", String(row.epochs)]),
    ...row.flags,
    ...["--threads", String(threads)],
  ];
  const { answer, peakBytes } = await runApiq(args, onLine);
  const places = new Map([
    [source, MODEL],
    [out, row.name],
    [calibration, "wikitext-2/valid.txt"],
    [work, ""],
  ]);
  return {
    command: shownCommand(args, places),
    // Of a run that was continued, `seconds` is the last part: its blocks know better.
    seconds: Math.max(answer.seconds, blockSeconds(join(out, "quantize.jsonl"))),
    peakBytes: Math.max(answer.peakBytes, peakBytes),
  };
}

/** Sum of what the finished blocks took. */
function blockSeconds(log) {
  if (!existsSync(log)) return 0;
  const blocks = new Map();
  for (const line of readFileSync(log, "utf8").split("\n").filter(Boolean)) {
    const { layer, seconds } = JSON.parse(line);
    if (layer !== undefined && seconds !== undefined) blocks.set(layer, seconds);
  }
  return [...blocks.values()].reduce((sum, seconds) => sum + seconds, 0);
}

/**
 * Perplexity over the first windows of the test text.
 *
 * @param {import("../apiq_command.mjs").Subject} subject
 * @param {Pick<Settings, "test" | "limit" | "threads" | "onLine">} settings
 * @returns {Promise<{ ppl: number, nll: number, window: number, windows: number, tokens: number, seconds: number,
 *   cpuSeconds: number, command: string }>}
 */
export async function evaluatePerplexity(subject, { test, limit, threads, onLine }) {
  const args = [
    ...["eval", "ppl", ...subjectArgs(subject), "--data", test],
    ...["--window", String(WINDOW), "--limit", String(limit), "--threads", String(threads)],
  ];
  const { answer, cpuSeconds } = await runApiq(args, onLine);
  const places = new Map([...subjectPlaces(subject), [test, "wikitext-2/test.txt"]]);
  return { ...answer, cpuSeconds, command: shownCommand(args, places) };
}
