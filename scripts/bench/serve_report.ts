/** From the rounds of the serving benchmark to medians, ratios and a table. */
import type { ClientReport } from "./serve_client.ts";
import type { Runtime } from "./serve_process.ts";

/** What `apiq bench --json` prints, as far as it is used here. */
export interface EngineReport {
  device: string;
  isa: string;
  threads: number;
  activations: string;
  sequences: number;
  decode: { medianMs: number; meanMs: number };
}

export interface Round {
  engine: EngineReport;
  load: ClientReport;
}

export interface Measurement {
  runtime: Runtime;
  commands: string[];
  rounds: Round[];
}

export interface Machine {
  cpu: string;
  cores: number;
  loadAverage: number;
}

export interface ServeReport {
  date: string;
  machine: Machine;
  model: string;
  clients: number;
  promptTokens: number;
  tokens: number;
  measurements: Measurement[];
}

/** @param values at least one */
export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/**
 * Linear between neighbours.
 * @param sorted at least one value
 */
export function quantile(sorted: readonly number[], fraction: number): number {
  const at = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(at)] as number;
  const above = sorted[Math.ceil(at)] as number;
  return below + (above - below) * (at - Math.floor(at));
}

/** Tokens a second of a mean step: like the rate over HTTP, it has the slow steps in it. */
const engineRate = ({ engine }: Round): number => (1000 * engine.sequences) / engine.decode.meanMs;

/** Medians over the rounds. Processor shares are of one core. */
export function summarize({ rounds }: Measurement) {
  const over = (value: (round: Round) => number) => median(rounds.map(value));
  const httpRate = ({ load }: Round) => load.window.tokens / load.window.seconds;
  const share = (process: keyof ClientReport["cpu"]) => over(({ load }) => load.cpu[process] / load.window.seconds);
  return {
    engineTokensPerSecond: over(engineRate),
    httpTokensPerSecond: over(httpRate),
    /** Of rounds, whose two halves ran one after the other. */
    ratio: over((round) => httpRate(round) / engineRate(round)),
    /** The same from median times between tokens, which a busy machine disturbs less. */
    stepRatio: over(({ engine, load }) => engine.decode.medianMs / quantile(load.interTokenMs, 0.5)),
    firstTokenMs: {
      p50: over(({ load }) => quantile(load.firstTokenMs, 0.5)),
      p99: over(({ load }) => quantile(load.firstTokenMs, 0.99)),
    },
    interTokenMs: {
      p50: over(({ load }) => quantile(load.interTokenMs, 0.5)),
      p99: over(({ load }) => quantile(load.interTokenMs, 0.99)),
    },
    tokensPerEvent: over(({ load }) => load.tokensPerEvent),
    cpu: { client: share("client"), http: share("http"), engine: share("engine") },
    clientSeconds: over(({ load }) => load.cpu.client),
    windowSeconds: over(({ load }) => load.window.seconds),
  };
}

const percent = (value: number) => `${(100 * value).toFixed(1)} %`;

function renderMeasurement(measurement: Measurement): string[] {
  const { runtime, rounds } = measurement;
  const s = summarize(measurement);
  const each = rounds.map(
    (round) =>
      `${(round.load.window.tokens / round.load.window.seconds).toFixed(1)} of ${engineRate(round).toFixed(1)}`,
  );
  return [
    "",
    runtime,
    `  engine alone     ${s.engineTokensPerSecond.toFixed(1)} tokens/s`,
    `  over HTTP        ${s.httpTokensPerSecond.toFixed(1)} tokens/s (rounds: ${each.join(", ")})`,
    `  HTTP / engine    ${percent(s.ratio)} by throughput, ${percent(s.stepRatio)} by the median time between tokens`,
    `  first token      p50 ${s.firstTokenMs.p50.toFixed(0)} ms, p99 ${s.firstTokenMs.p99.toFixed(0)} ms (all clients at once, nothing cached)`,
    `  between tokens   p50 ${s.interTokenMs.p50.toFixed(1)} ms, p99 ${s.interTokenMs.p99.toFixed(1)} ms; ${s.tokensPerEvent.toFixed(3)} tokens an event`,
    `  of one core      HTTP ${percent(s.cpu.http)}, engine ${percent(s.cpu.engine)}, load client ${percent(s.cpu.client)} (${s.clientSeconds.toFixed(2)} s in ${s.windowSeconds.toFixed(2)} s)`,
  ];
}

/** The whole report as text. */
export function render({ machine, model, clients, promptTokens, tokens, measurements }: ServeReport): string {
  const rounds = measurements[0]!.rounds;
  const { engine } = rounds[0]!;
  return [
    `${machine.cpu}, ${machine.cores} cores, load average before the run ${machine.loadAverage.toFixed(1)}`,
    `${model}: ${engine.isa}, ${engine.threads} threads, ${engine.activations} activations`,
    `${clients} streaming clients in one process on the same machine, prompts of ${promptTokens} tokens, answers of ${tokens}; medians of ${rounds.length} rounds`,
    ...measurements.flatMap(renderMeasurement),
    "",
    ...measurements.flatMap(({ commands }) => commands.map((command) => `$ ${command}`)),
  ].join("\n");
}
