import process from "node:process";
import { AdapterApi, type ListedAdapter } from "../../adapters/api.ts";
import { defineCommand, type FlagValues } from "../command.ts";
import { formatBytes } from "../format.ts";
import type { Output } from "../output.ts";

const SERVER_FLAGS = {
  url: { type: "string", summary: "the server", placeholder: "URL", default: "http://127.0.0.1:8000" },
  json: { type: "boolean", summary: "print JSON" },
} as const;

const EXPECT_FLAG = {
  expectGeneration: {
    type: "integer",
    summary: "do it only if the name is at this generation; 0: if it is not loaded",
    min: 0,
  },
} as const;

const KEY_NOTE = "A server with keys wants one of its admin keys in the variable APIQ_API_KEY.";

function open({ url }: FlagValues<typeof SERVER_FLAGS>): AdapterApi {
  return new AdapterApi(url, process.env.APIQ_API_KEY);
}

function print(adapters: readonly ListedAdapter[], out: Output): void {
  const rows = adapters.map((a) => [
    ...[a.lora_name, `generation ${a.generation}`, `rank ${a.rank}`, `${a.targets} linears`, formatBytes(a.bytes)],
    ...[a.mode, a.lora_path],
  ]);
  const width = (column: number) => Math.max(...rows.map((row) => row[column]!.length));
  for (const row of rows)
    out.line(row.map((cell, i) => (i < row.length - 1 ? cell.padEnd(width(i)) : cell)).join("  "));
}

const listCommand = defineCommand({
  name: "adapters list",
  summary: "the adapters of a running server",
  description: KEY_NOTE,
  flags: SERVER_FLAGS,
  examples: ["apiq adapters list", "apiq adapters list --url http://gpu1:8000 --json"],
  async run({ flags, out }) {
    const adapters = await open(flags).list();
    if (flags.json) out.json(adapters);
    else if (adapters.length === 0) out.note("No adapters are loaded");
    else print(adapters, out);
    return 0;
  },
});

const loadCommand = defineCommand({
  name: "adapters load",
  summary: "load an adapter into a running server",
  description: [
    "PATH is the adapter's folder as the server sees it: absolute, or relative to one of its --adapter-root folders. Requests that",
    `run keep the generation they began with. ${KEY_NOTE}`,
  ].join("\n"),
  positionals: [
    { name: "NAME", summary: "what requests write as their model", required: true },
    { name: "PATH", summary: "the adapter's folder", required: true },
  ],
  flags: {
    ...SERVER_FLAGS,
    ...EXPECT_FLAG,
    inPlace: { type: "boolean", summary: "the name may have an adapter already: new requests get the new one" },
    mode: {
      type: "string",
      summary: "the adapter takes the place of the model's calibrated LoRA, or comes on top of it",
      choices: ["replace", "stack"],
    },
  },
  examples: ["apiq adapters load sql adapters/sql", "apiq adapters load sql adapters/sql-v2 --in-place"],
  async run({ flags, positionals, out }) {
    const [name, path] = positionals as [string, string];
    const { inPlace, mode, expectGeneration: expected } = flags;
    const loaded = await open(flags).load(name, path, { inPlace, mode, expected });
    if (flags.json) out.json(loaded);
    else print([loaded], out);
    return 0;
  },
});

const unloadCommand = defineCommand({
  name: "adapters unload",
  summary: "unload an adapter from a running server",
  description: `Requests that run with it go on to their end. ${KEY_NOTE}`,
  positionals: [{ name: "NAME", summary: "the adapter", required: true }],
  flags: { ...SERVER_FLAGS, ...EXPECT_FLAG },
  examples: ["apiq adapters unload sql"],
  async run({ flags, positionals, out }) {
    const unloaded = await open(flags).unload(positionals[0]!, flags.expectGeneration);
    if (flags.json) out.json(unloaded);
    else out.line(`${unloaded.lora_name}, generation ${unloaded.generation}, is unloaded`);
    return 0;
  },
});

export const adaptersCommands = [listCommand, loadCommand, unloadCommand];
