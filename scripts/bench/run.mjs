/**
 * `npm run bench`: times apiq and llama.cpp in turn, on the same machine, shape and thread counts, with the machine's
 * read bandwidth measured in between, and prints a table.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { runApiq } from "./apiq.mjs";
import { prepareLlama, prepareModel, runLlama } from "./llama.mjs";
import { describeMachine, measureReadBandwidth } from "./machine.mjs";
import { replaceMarked } from "./markdown.mjs";
import { LINEAR_FORMATS } from "./random_gguf.mjs";
import { compare, median, render, renderMarkdown, summarize } from "./report.mjs";
import { SHAPES } from "./shapes.mjs";

const PROMPT_TOKENS = 512;
const DECODE_STEPS = 64;

const HELP = `Usage: npm run bench -- [options]

Times apiq (2 bits, groups of 64) and llama.cpp in turn: prefill of ${PROMPT_TOKENS} tokens, and decode at batch 1 after them.

  --shape NAME       ${Object.keys(SHAPES).join(" or ")} (default: tinyllama-1.1b)
  --threads LIST     thread counts, such as 1,2 (default: 1 and all cores)
  --rounds N         runs of each side per thread count (default: 3)
  --formats LIST     llama.cpp's formats: ${LINEAR_FORMATS.join(", ")} (default: TQ2_0)
  --skip-llama       time apiq only; installs and downloads nothing
  --json FILE        also write everything measured, as JSON
  --readme FILE      also put the table between <!-- bench --> and <!-- /bench --> of FILE
  --help             show this text

The first run installs llama.cpp's libraries and makes random models of about 400 MB (tinyllama-1.1b) or 2 GB
(llama-2-7b) in the system's folder for temporary files.`;

/** A mistake on the command line. */
class UsageError extends Error {}

function positiveInteger(text, flag) {
  if (!/^[1-9]\d{0,3}$/.test(text)) {
    throw new UsageError(`Cannot read ${flag}: received ${text}, expected a positive integer`);
  }
  return Number(text);
}

function oneOf(text, choices, flag) {
  if (!choices.includes(text)) {
    throw new UsageError(`Cannot read ${flag}: received ${text}, expected one of ${choices.join(", ")}`);
  }
  return text;
}

function parseCommandLine() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        shape: { type: "string", default: "tinyllama-1.1b" },
        threads: { type: "string", default: [...new Set([1, availableParallelism()])].join(",") },
        rounds: { type: "string", default: "3" },
        formats: { type: "string", default: "TQ2_0" },
        "skip-llama": { type: "boolean", default: false },
        json: { type: "string" },
        readme: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error.message);
  }
  return {
    shape: oneOf(values.shape, Object.keys(SHAPES), "--shape"),
    threadCounts: values.threads.split(",").map((text) => positiveInteger(text, "--threads")),
    rounds: positiveInteger(values.rounds, "--rounds"),
    formats: values["skip-llama"]
      ? []
      : values.formats.split(",").map((text) => oneOf(text, LINEAR_FORMATS, "--formats")),
    jsonPath: values.json,
    readmePath: values.readme,
    help: values.help,
  };
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** All rounds at one thread count: the raw answers of every program, in the order they ran. */
function measure(threads, { shape, rounds }, llama, models) {
  const options = { threads, promptTokens: PROMPT_TOKENS, decodeSteps: DECODE_STEPS };
  return Array.from({ length: rounds }, (_, round) => {
    const show = (what) => progress(`${threads} threads, round ${round + 1} of ${rounds}: ${what}`);
    show("read bandwidth");
    const bandwidth = measureReadBandwidth(threads);
    const llamaRuns = models.map((model) => {
      show(`llama.cpp ${model.format}`);
      return runLlama(llama.program, model, options);
    });
    show("apiq");
    return { bandwidth, llamaRuns, apiqRun: runApiq(shape, options) };
  });
}

/** Medians and ratios of what `measure` returned. */
function evaluate(threads, rounds, models) {
  const bandwidth = {
    bytesPerSecond: median(rounds.map((round) => round.bandwidth.bytesPerSecond)),
    bestBytesPerSecond: Math.max(...rounds.map((round) => round.bandwidth.bestBytesPerSecond)),
  };
  const llamas = models.map(({ format, bytesPerStep }, index) => {
    const results = rounds.map((round) => round.llamaRuns[index].result);
    return summarize({ engine: "llama.cpp", format, bytesPerStep }, results, bandwidth.bytesPerSecond);
  });
  const missing = rounds.find((round) => round.apiqRun.unavailable !== undefined);
  if (missing) return { threads, bandwidth, summaries: llamas, apiqUnavailable: missing.apiqRun.unavailable, rounds };
  const results = rounds.map((round) => round.apiqRun.result);
  const subject = { engine: "apiq", format: "2-bit, groups of 64", bytesPerStep: results[0].bytesPerStep };
  const apiq = summarize(subject, results, bandwidth.bytesPerSecond);
  const comparison = llamas.length > 0 ? compare(apiq, llamas) : null;
  return { threads, bandwidth, summaries: [...llamas, apiq], comparison, rounds };
}

/** What ran on either side, from the first answer of each. */
function describeSides(measurements, llama) {
  const [{ apiqRun, llamaRuns }] = measurements[0].rounds;
  const features = (systemInfo) => [...systemInfo.matchAll(/(\w+) = 1\b/g)].map(([, feature]) => feature);
  return {
    apiq: apiqRun.result ? { isa: apiqRun.result.isa } : null,
    llama: llama && {
      release: llama.release,
      package: llama.package,
      cpuBackend: llamaRuns[0].result.cpuBackend,
      features: features(llamaRuns[0].result.systemInfo),
    },
  };
}

function writeAtomically(path, text) {
  const partial = `${path}.partial-${process.pid}`;
  writeFileSync(partial, text);
  renameSync(partial, path);
}

function main() {
  const options = parseCommandLine();
  if (options.help) {
    console.log(HELP);
    return;
  }
  const { shape, threadCounts, rounds, formats } = options;
  const machine = describeMachine();
  progress("preparing");
  const llama = formats.length > 0 ? prepareLlama() : null;
  const models = formats.map((format) => prepareModel(shape, format, PROMPT_TOKENS + DECODE_STEPS / 2));
  const measurements = threadCounts.map((threads) =>
    evaluate(threads, measure(threads, options, llama, models), models),
  );
  progress("");

  const [{ llamaRuns, apiqRun }] = measurements[0].rounds;
  const report = {
    date: new Date().toISOString(),
    machine,
    sides: describeSides(measurements, llama),
    shape,
    rounds,
    promptTokens: PROMPT_TOKENS,
    decodeSteps: DECODE_STEPS,
    commands: [...llamaRuns, apiqRun].map(({ command }) => command),
    measurements,
  };
  console.log(render(report));
  if (options.jsonPath !== undefined) writeAtomically(options.jsonPath, `${JSON.stringify(report, null, 2)}\n`);
  if (options.readmePath !== undefined) {
    const command = `npm run bench -- ${process.argv.slice(2).join(" ")}`;
    const readme = readFileSync(options.readmePath, "utf8");
    writeAtomically(options.readmePath, replaceMarked(readme, "bench", renderMarkdown(report, command)));
  }
  if (measurements.some(({ apiqUnavailable }) => apiqUnavailable !== undefined)) process.exitCode = 1;
}

try {
  main();
} catch (error) {
  progress("");
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\nTry npm run bench -- --help`);
  process.exitCode = 2;
}
