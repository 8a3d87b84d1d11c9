/** `apiq serve` */
import { basename, resolve } from "node:path";
import { defineCommand, UsageError } from "../runtime/cli/command.ts";
import { ENGINE_FLAGS, engineClientOptions } from "../runtime/cli/engine_flags.ts";
import { formatDuration } from "../runtime/cli/format.ts";
import type { Output } from "../runtime/cli/output.ts";
import type { EngineState } from "../runtime/engine/client.ts";
import type { EngineModelInfo } from "../runtime/engine/protocol.ts";
import { ApiKeys } from "./api_keys.ts";
import { noModel } from "./errors.ts";
import { type Server, startServer } from "./server.ts";

/** `version` is what /health reports. */
export function serveCommand(version: string) {
  return defineCommand({
    name: "serve",
    summary: "answer OpenAI's API over HTTP",
    description:
      "Serves a model over an OpenAI-compatible HTTP API until stopped (Ctrl-C or SIGTERM). Without --model it serves too,\n" +
      "and says on /health and in errors how to get a model.",
    flags: {
      model: { type: "string", summary: "folder of the model", placeholder: "DIR" },
      host: { type: "string", summary: "address to listen on", placeholder: "ADDRESS", default: "127.0.0.1" },
      port: { type: "integer", summary: "port to listen on; 0 takes any free one", default: 8000, min: 0, max: 65535 },
      servedModelName: { type: "string", summary: "name in the API (default: the folder's)", placeholder: "NAME" },
      // A million tokens of text; a longer conversation fits no model here.
      maxBody: { type: "bytes", summary: "largest request body", default: "4M", min: 1024 },
      maxQueue: { type: "integer", summary: "answers that may wait; more are refused with 429", default: 256, min: 0 },
      apiKeyFile: {
        type: "string",
        summary: "file with the keys that clients must send, one a line",
        placeholder: "FILE",
      },
      ...ENGINE_FLAGS,
    },
    examples: [
      "apiq serve --model ./SmolLM2 --port 8080",
      "apiq serve --model ./base --adapter sql=./sql-adapter --served-model-name base",
    ],
    async run({ flags, out, signal }) {
      if (flags.model === undefined && flags.adapter.length > 0)
        throw new UsageError("Cannot load --adapter without --model");
      const server = await startServer({
        hostname: flags.host,
        port: flags.port,
        version,
        maxBodyBytes: flags.maxBody,
        maxQueue: flags.maxQueue,
        apiKeys: flags.apiKeyFile === undefined ? undefined : ApiKeys.read(flags.apiKeyFile),
        model: flags.model === undefined ? undefined : modelOptions(flags.model, flags.servedModelName, flags),
        onEngineState: reportState(out),
        log: (text) => out.error(text),
      });
      try {
        const stopped = aborted(signal);
        const model = await Promise.race([stopped, server.served?.engine.ready()]);
        if (!signal.aborted) announce(server, model ?? undefined, version, out);
        await stopped;
        out.note("Stopping: running answers have a moment to finish");
        return 0;
      } finally {
        await server.stop();
      }
    },
  });
}

function modelOptions(model: string, name: string | undefined, flags: Parameters<typeof engineClientOptions>[1]) {
  const dir = resolve(model);
  return { dir, name: name ?? basename(dir), engine: engineClientOptions(dir, flags) };
}

/** Loading as a progress bar, deaths of the engine as errors. */
function reportState(out: Output): (state: EngineState) => void {
  let progress = out.progress("loading", 0, "bytes");
  return (state) => {
    switch (state.status) {
      case "loading":
        progress.update(state.done, { label: state.stage, total: state.total });
        break;
      case "ready":
        progress.end();
        progress = out.progress("loading", 0, "bytes");
        break;
      case "restarting":
        progress.end();
        out.error(
          `The engine stopped (${state.error}); it is started again, for the ${ordinal(state.crashes)} time in a row`,
        );
        break;
      case "failed":
      case "closed":
        progress.end();
        break;
    }
  };
}

function ordinal(count: number): string {
  const ending = count % 100 >= 11 && count % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][count % 10] ?? "th");
  return `${count}${ending}`;
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
