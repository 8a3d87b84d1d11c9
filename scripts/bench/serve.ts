/**
 * `npm run bench:serve`: tokens per second of many streaming HTTP clients against what the engine alone makes of as many
 * sequences, both measured in turn.
 */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { basename, join, resolve } from "node:path";
import process from "node:process";
import { parseArgs, promisify } from "node:util";
import { SHAPES } from "../../runtime/models/shapes.ts";
import type { ClientReport, ClientTask } from "./serve_client.ts";
import { prepareRandomModel } from "./serve_model.ts";
import { type Runtime, startServer } from "./serve_process.ts";
import { type EngineReport, type Measurement, type Round, render, type ServeReport } from "./serve_report.ts";

const PROGRAM = join(import.meta.dirname, "..", "apiq");
const CLIENT = join(import.meta.dirname, "serve_client.ts");
const RUNTIMES: readonly Runtime[] = ["bun", "deno"];
/** Longest that one half of a round may take. */
const HALF_MS = 10 * 60_000;

const HELP = `Usage: npm run bench:serve -- (--shape NAME | --model DIR) [options]

Times, in turn, the engine alone (apiq bench) and streaming clients of apiq serve, and prints the ratio of the two. Only
decoding counts: clients are timed while all of them receive tokens.

  --shape NAME       ${Object.keys(SHAPES).join(", ")}: 2 bits, groups of 64, random weights
  --model DIR        a model folder
  --clients N        streaming clients, and sequences of the engine (default: 16)
  --prompt N         prompt tokens; one more than a multiple of 16 makes the clients start together (default: 129)
  --tokens N         tokens of each answer (default: 64)
  --threads N        the engine's threads, 0 for all cores (default: 0)
  --rounds N         runs of each side (default: 3)
  --runtime LIST     ${RUNTIMES.join(", ")} (default: bun)
  --json FILE        also write everything measured, as JSON
  --help             show this text

The random model of tinyllama-1.1b takes 450 MB in the system's folder for temporary files.`;

/** A mistake on the command line. */
class UsageError extends Error {}

function integer(text: string, flag: string, min: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min)) {
    throw new UsageError(`Cannot read ${flag}: received ${text}, expected an integer from ${min}`);
  }
  return value;
}

function oneOf<T extends string>(text: string, choices: readonly T[], flag: string): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) {
    throw new UsageError(`Cannot read ${flag}: received ${text}, expected one of ${choices.join(", ")}`);
  }
  return found;
}

const FLAGS = {
  shape: { type: "string" },
  model: { type: "string" },
  clients: { type: "string", default: "16" },
  prompt: { type: "string", default: "129" },
  tokens: { type: "string", default: "64" },
  threads: { type: "string", default: "0" },
  rounds: { type: "string", default: "3" },
  runtime: { type: "string", default: "bun" },
  json: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

function parseFlags() {
  try {
    return parseArgs({ options: FLAGS }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseCommandLine() {
  const values = parseFlags();
  const { shape, model } = values;
  if (!values.help && (shape === undefined) === (model === undefined)) {
    throw new UsageError("Cannot choose a model: expected either --shape NAME or --model DIR");
  }
  return {
    shape: shape === undefined ? undefined : oneOf(shape, Object.keys(SHAPES), "--shape"),
    model,
    clients: integer(values.clients, "--clients", 1),
    promptTokens: integer(values.prompt, "--prompt", 1),
    // The engine's own benchmark takes no fewer.
    tokens: integer(values.tokens, "--tokens", 8),
    threads: integer(values.threads, "--threads", 0),
    rounds: integer(values.rounds, "--rounds", 1),
    runtimes: values.runtime.split(",").map((text) => oneOf(text, RUNTIMES, "--runtime")),
    jsonPath: values.json,
    help: values.help,
  };
}

type Options = ReturnType<typeof parseCommandLine>;

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Runs a program that prints one JSON value. */
async function runForJson<T>(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<T> {
  const { stdout } = await promisify(execFile)(program, args, { env, timeout: HALF_MS, maxBuffer: 2 ** 26 });
  return JSON.parse(stdout) as T;
}

const benchArguments = (dir: string, { clients, promptTokens, tokens, threads }: Options) => [
  ...["bench", "--model", dir, "--sequences", String(clients), "--threads", String(threads)],
  ...["--prompt", String(promptTokens), "--tokens", String(tokens), "--json"],
];

function measureEngine(dir: string, runtime: Runtime, options: Options): Promise<EngineReport> {
  return runForJson(PROGRAM, benchArguments(dir, options), { ...process.env, APIQ_RUNTIME: runtime });
}

/** The server lives as long as the call. */
async function measureServer(
  dir: string,
  runtime: Runtime,
  { clients, promptTokens, tokens, threads }: Options,
): Promise<{ command: string; load: ClientReport }> {
  const server = await startServer(runtime, [
    ...["--model", dir, "--threads", String(threads)],
    // As long as the benchmark of the engine makes it, so that both have a cache of the same size.
    ...["--max-sequences", String(clients), "--context", String(promptTokens + tokens + 1)],
  ]);
  try {
    const { vocab_size } = JSON.parse(readFileSync(join(dir, "config.json"), "utf8")) as { vocab_size: number };
    const task: ClientTask = {
      ...{ url: server.url, model: basename(dir), serverPid: server.pid },
      ...{ clients, promptTokens, tokens, vocabSize: vocab_size },
    };
    const load = await runForJson<ClientReport>(process.execPath, ["run", CLIENT, JSON.stringify(task)]);
    return { command: server.command, load };
  } finally {
    await server.stop();
  }
}

async function measure(dir: string, runtime: Runtime, options: Options): Promise<Measurement> {
  const rounds: Round[] = [];
  const commands = new Set([`scripts/apiq ${benchArguments(dir, options).join(" ")}`]);
  for (let round = 1; round <= options.rounds; round++) {
    progress(`${runtime}, round ${round} of ${options.rounds}: engine`);
    const engine = await measureEngine(dir, runtime, options);
    progress(`${runtime}, round ${round} of ${options.rounds}: HTTP`);
    const { command, load } = await measureServer(dir, runtime, options);
    commands.add(command.replace(/ --port \d+/, ""));
    rounds.push({ engine, load });
  }
  return { runtime, commands: [...commands], rounds };
}

async function main(): Promise<void> {
  const options = parseCommandLine();
  if (options.help) {
    console.log(HELP);
    return;
  }
  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: availableParallelism(), loadAverage: loadavg()[0] ?? 0 };
  progress("preparing");
  const dir = options.shape === undefined ? resolve(options.model as string) : await prepareRandomModel(options.shape);
  const measurements: Measurement[] = [];
  for (const runtime of options.runtimes) measurements.push(await measure(dir, runtime, options));
  progress("");
  const report: ServeReport = {
    date: new Date().toISOString(),
    machine,
    model: options.shape === undefined ? basename(dir) : `${options.shape}, 2 bits in groups of 64, random weights`,
    clients: options.clients,
    promptTokens: options.promptTokens,
    tokens: options.tokens,
    measurements,
  };
  console.log(render(report));
  if (options.jsonPath !== undefined) writeFileSync(options.jsonPath, `${JSON.stringify(report, null, 2)}\n`);
}

// Exiting runs the handlers that end a server.
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => process.exit(130));

try {
  await main();
} catch (error) {
  progress("");
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\nTry npm run bench:serve -- --help`);
  process.exitCode = 2;
}
