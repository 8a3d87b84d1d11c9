/** The flags of `apiq serve`, each of which apiq.toml and the environment may set as well. */
import type { FlagValues } from "../../runtime/cli/command.ts";
import { ENGINE_FLAGS } from "../../runtime/cli/engine_flags.ts";
import { ADAPTER_FLAGS } from "../adapters/flags.ts";

/** Settings in the working folder that are read without being asked for. */
export const DEFAULT_FILE = "apiq.toml";

/** What a timer can wait; one that is to wait longer goes off at once. */
const MAX_SECONDS = 2_147_483;

export const SERVE_FLAGS = {
  model: { type: "string", summary: "folder of the model", placeholder: "DIR" },
  host: { type: "string", summary: "address to listen on", placeholder: "ADDRESS", default: "127.0.0.1" },
  port: { type: "integer", summary: "port to listen on; 0 takes any free one", default: 8000, min: 0, max: 65535 },
  servedModelName: { type: "string", summary: "name in the API (default: the folder's)", placeholder: "NAME" },
  apiKeyFile: {
    type: "string",
    summary:
      "file with the keys that clients must send: one a line, or its sha256:HEX, with a name after it if you like",
    placeholder: "FILE",
  },
  adminKeyFile: {
    type: "string",
    summary: "file with the keys that may also change what is served",
    placeholder: "FILE",
  },
  corsOrigin: {
    type: "string",
    summary: "web page origin that may use the API from a browser, such as https://chat.example.org",
    placeholder: "ORIGIN",
    multiple: true,
  },
  // A million tokens of text; a longer conversation fits no model here.
  maxBody: { type: "bytes", summary: "largest request body", default: "4M", min: 1024 },
  bodyTimeout: {
    type: "integer",
    summary: "seconds in which a request's body must have come",
    default: 30,
    min: 1,
    max: MAX_SECONDS,
  },
  requestTimeout: {
    type: "integer",
    summary: "seconds that an answer may take; 0: any",
    default: 3600,
    min: 0,
    max: MAX_SECONDS,
  },
  maxQueue: { type: "integer", summary: "answers that may wait; more are refused with 429", default: 256, min: 0 },
  requestsPerMinute: { type: "integer", summary: "requests a minute with one key (default: any)", min: 1 },
  tokensPerMinute: {
    type: "integer",
    summary: "tokens a minute with one key, read and written (default: any)",
    min: 1,
  },
  requestsAtOnce: { type: "integer", summary: "requests at a time with one key (default: any)", min: 1 },
  drainTimeout: {
    type: "integer",
    summary: "seconds that running answers have after Ctrl-C or SIGTERM",
    default: 30,
    min: 0,
    max: MAX_SECONDS,
  },
  logFormat: {
    type: "string",
    summary: "how the log is written (default: pretty on a terminal, json elsewhere)",
    choices: ["json", "pretty"],
  },
  logLevel: {
    type: "string",
    summary: "the least that is logged",
    choices: ["debug", "info", "warn", "error", "silent"],
    default: "info",
  },
  logPrompts: { type: "boolean", summary: "log what clients send, too" },
  otlpEndpoint: {
    type: "string",
    summary: "OpenTelemetry collector that gets a trace of every request, such as http://127.0.0.1:4318",
    placeholder: "URL",
  },
  config: {
    type: "string",
    summary: `file with settings (default: ${DEFAULT_FILE} in the working folder, if there is one)`,
    placeholder: "FILE",
  },
  printConfig: { type: "boolean", summary: "print every setting and where it comes from, and end" },
  ...ADAPTER_FLAGS,
  ...ENGINE_FLAGS,
} as const;

export type Settings = FlagValues<typeof SERVE_FLAGS>;

/** What cannot be set by a file, because it says which file, or what to do with it. */
export const ONLY_FLAGS: ReadonlySet<string> = new Set(["config", "printConfig"]);
