/** `apiq serve` */
import process from "node:process";
import { defineCommand } from "../runtime/cli/command.ts";
import { formatDuration } from "../runtime/cli/format.ts";
import type { Output } from "../runtime/cli/output.ts";
import type { EngineModelInfo } from "../runtime/engine/protocol.ts";
import { servedModelOptions } from "./adapters/flags.ts";
import { ApiKeys } from "./api_keys.ts";
import { checkSettings } from "./config/check.ts";
import { printConfig } from "./config/print.ts";
import { SERVE_FLAGS, type Settings } from "./config/serve_flags.ts";
import { resolveSettings } from "./config/settings.ts";
import { reportEngine } from "./engine_report.ts";
import { noModel } from "./errors.ts";
import { LineWriter } from "./logging/line_writer.ts";
import { createLog } from "./logging/log.ts";
import { standardError } from "./logging/standard_error.ts";
import { type Server, type ServerOptions, startServer } from "./server.ts";
import type { Tracing } from "./tracing/tracing.ts";

/** `version` is what /health reports. */
export function serveCommand(version: string) {
  return defineCommand({
    name: "serve",
    summary: "answer OpenAI's API over HTTP",
    description:
      "Serves a model over an OpenAI-compatible HTTP API until stopped (Ctrl-C or SIGTERM). Without --model it serves too,\n" +
      "and says on /health and in errors how to get a model. Every flag can be set by a variable (APIQ_MAX_QUEUE for\n" +
      "--max-queue) or in apiq.toml (max-queue = 100); flags come before variables, variables before the file.",
    flags: SERVE_FLAGS,
    examples: [
      "apiq serve --model ./SmolLM2 --port 8080",
      "apiq serve --model ./base --adapter sql=./sql-adapter --served-model-name base",
      "apiq serve --config ./apiq.toml --print-config",
    ],
    async run({ flags, given, out, signal }) {
      const resolved = resolveSettings({ flags, given }, process.env, "");
      if (resolved.settings.printConfig) {
        out.line(printConfig(resolved));
        return 0;
      }
      checkSettings(resolved);
      const lines = new LineWriter(await standardError());
      const server = await startServer(await serverOptions(resolved.settings, version, out, lines));
      try {
        const stopped = aborted(signal);
        const model = await Promise.race([stopped, server.served?.ready()]);
        if (!signal.aborted) announce(server, model ?? undefined, version, out);
        await stopped;
        return 0;
      } finally {
        await server.stop();
        await lines.flush();
      }
    },
  });
}

/** Throws what reading key files or folders throws. */
async function serverOptions(
  settings: Settings,
  version: string,
  out: Output,
  lines: LineWriter,
): Promise<ServerOptions> {
  const { host, otlpEndpoint } = settings;
  const model = await servedModelOptions(settings);
  const apiKeys = ApiKeys.read(settings.apiKeyFile, settings.adminKeyFile);
  const log = await createLog({
    format: settings.logFormat ?? (process.stderr.isTTY ? "pretty" : "json"),
    level: settings.logLevel,
    write: (line) => lines.write(line),
  });
  return {
    hostname: host,
    port: settings.port,
    version,
    maxBodyBytes: settings.maxBody,
    bodySeconds: settings.bodyTimeout,
    requestSeconds: settings.requestTimeout,
    drainSeconds: settings.drainTimeout,
    maxQueue: settings.maxQueue,
    limits: settings,
    apiKeys,
    corsOrigins: settings.corsOrigin,
    log,
    logPrompts: settings.logPrompts,
    tracing: otlpEndpoint === undefined ? undefined : await openTracing(otlpEndpoint, version),
    model,
    onEngineState: reportEngine(out, log),
  };
}

/** Loads OpenTelemetry, which takes time and memory that a server without it keeps. */
async function openTracing(endpoint: string, version: string): Promise<Tracing> {
  const tracing = await import("./tracing/tracing.ts");
  return tracing.openTracing(endpoint, version);
}

/** In one write, so that a program that waits for the address in a pipe has all of it then. */
function announce({ url, served }: Server, model: EngineModelInfo | undefined, version: string, out: Output): void {
  if (!served || !model) {
    out.line(`apiq ${version} listens on ${out.style("bold", url)}\n${noModel().message}`);
    return;
  }
  const threads = model.threads === 1 ? "1 thread" : `${model.threads} threads`;
  const where = `${model.device}, ${model.isa}, ${threads}, context of ${model.contextLength} tokens`;
  const body = { model: served.name, messages: [{ role: "user", content: "What is the capital of France?" }] };
  out.line(
    [
      `apiq ${version} serves ${served.name} on ${out.style("bold", url)} (${where})`,
      `Loaded in ${formatDuration(model.loadSeconds)}. Try:`,
      `  curl ${url}/v1/chat/completions -H 'content-type: application/json' -d '${JSON.stringify(body)}'`,
    ].join("\n"),
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
