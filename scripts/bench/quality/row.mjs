/** One row: quantize, measure what is stored, evaluate. */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { describeMachine } from "../machine.mjs";
import { commandLine } from "../programs.mjs";
import { runForJson } from "./process.mjs";
import { measureStorage } from "./storage.mjs";

const REPOSITORY = join(import.meta.dirname, "..", "..", "..");
const APIQ = join("scripts", "apiq");
const BUN = join("node_modules", "bun", "bin", "bun.exe");
const WINDOW = 1024;

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
  const evaluation = await evaluate(model, settings);
  const storage = measureStorage(model, settings.source);
  if (quantized !== null && !settings.keep) rmSync(out, { recursive: true });
  const { name, variant, label, method, bits, group, seed, calibrated, samples, length, epochs, flags } = row;
  return {
    ...{ name, variant, label, method, bits, group, rank: storage.rank, seed },
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

async function describeHost(threads) {
  const { answer: isa } = await runForJson(BUN, ["run", join(import.meta.dirname, "isa.ts")], { cwd: REPOSITORY });
  const { cpu, cores, features, memoryBytes, loadAverage } = describeMachine();
  return { cpu, cores, threads: threads || availableParallelism(), isa, features, memoryBytes, loadAverage };
}

/** A command as one would type it, with the places of this machine replaced by what they hold. */
function shown(args, places) {
  return commandLine(
    APIQ,
    args.map((arg) => places.get(arg) ?? arg),
  );
}

async function quantize(row, out, { source, work, calibration, threads, resume, onLine }) {
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
    ...["--threads", String(threads), "--json"],
  ];
  const { answer, peakBytes } = await runForJson(APIQ, args, { cwd: REPOSITORY, onLine });
  const places = new Map([
    [source, "SmolLM2-135M-Instruct"],
    [out, row.name],
    [calibration, "wikitext-2/valid.txt"],
    [work, ""],
  ]);
  return {
    command: shown(args, places),
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

async function evaluate(model, { source, test, limit, threads, onLine }) {
  const args = [
    ...["eval", "ppl", "--model", model, "--data", test, "--window", String(WINDOW), "--limit", String(limit)],
    ...["--threads", String(threads), "--json"],
  ];
  const { answer } = await runForJson(APIQ, args, { cwd: REPOSITORY, onLine });
  const name = model === source ? "SmolLM2-135M-Instruct" : model.slice(model.lastIndexOf("/") + 1);
  const places = new Map([
    [model, name],
    [test, "wikitext-2/test.txt"],
  ]);
  return { ...answer, command: shown(args, places) };
}
