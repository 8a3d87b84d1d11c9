import { openAdapter } from "../../formats/mod.ts";
import { type AdapterSummary, type Inspection, inspectModel } from "../../inspect/inspect.ts";
import { defineCommand } from "../command.ts";
import { formatBytes } from "../format.ts";
import type { Output } from "../output.ts";

export const inspectCommand = defineCommand({
  name: "inspect",
  summary: "what a model folder holds and how much memory it needs",
  description: [
    "Reads headers only, and checks them as loading the model would. Memory is packed weights, LoRA, the KV cache of",
    "--max-sequences sequences of --context tokens in float16, and 250 MB for everything else.",
  ].join("\n"),
  positionals: [{ name: "DIR", summary: "model folder", required: true }],
  flags: {
    context: { type: "integer", summary: "tokens of a sequence (default: the model's, up to 4096)", min: 1 },
    maxSequences: { type: "integer", summary: "requests that run at the same time", default: 1, min: 1, max: 1024 },
    adapter: { type: "string", summary: "an adapter to be loaded as well", placeholder: "DIR", multiple: true },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: ["apiq inspect model", "apiq inspect model --context 8192 --max-sequences 16 --json"],
  async run({ flags, positionals, out }) {
    const inspection = inspectModel(positionals[0]!, {
      sequences: flags.maxSequences,
      adapters: flags.adapter.map(openAdapter),
      ...(flags.context === undefined ? {} : { contextLength: flags.context }),
    });
    if (flags.json) out.json(inspection);
    else print(inspection, out);
    return 0;
  },
});

function print(model: Inspection, out: Output): void {
  const row = (label: string, text: string): void => out.line(`${out.style("bold", label.padEnd(16))}${text}`);
  const bits = model.bitsPerWeight;
  row("model", `${model.dir} (${model.family}, ${millions(model.parameters)} parameters)`);
  row("context", `${model.contextLength} tokens`);
  row("quantization", model.quantization.method);
  for (const { storage, matrices } of model.quantization.storage) row("", `${matrices} matrices: ${storage}`);
  row("bits per weight", `linears ${bits.linears.toFixed(2)}, whole model ${bits.model.toFixed(2)}`);
  if (model.calibratedLora !== null) {
    row("  with LoRA", `linears ${bits.linearsWithLora.toFixed(2)}, whole model ${bits.modelWithLora.toFixed(2)}`);
  }
  for (const [part, { parameters, bytes }] of Object.entries(model.parts)) {
    if (bytes > 0) row(part, `${formatBytes(bytes)}, ${millions(parameters)} parameters`);
  }
  if (model.calibratedLora !== null) row("calibrated LoRA", describeAdapter(model.calibratedLora));
  for (const adapter of model.adapters) row("adapter", `${adapter.dir}: ${describeAdapter(adapter)}`);
  const { memory } = model;
  const parts = `weights ${formatBytes(memory.weights)}, LoRA ${formatBytes(memory.lora)}, KV cache ${formatBytes(memory.kvCache)}`;
  const load = `${memory.sequences} x ${memory.contextLength} tokens`;
  row("memory", `${formatBytes(memory.total)} for ${load} (${parts}, runtime ${formatBytes(memory.runtime)})`);
  row("fingerprint", model.fingerprint);
}

function describeAdapter({ rank, alpha, rsLora, dora, targets, bytes }: AdapterSummary): string {
  const kind = `${rsLora ? ", rsLoRA" : ""}${dora ? ", DoRA" : ""}`;
  return `rank ${rank}, alpha ${alpha}${kind}, ${targets} linears, ${formatBytes(bytes)}`;
}

function millions(parameters: number): string {
  return parameters < 1e9 ? `${(parameters / 1e6).toPrecision(3)} M` : `${(parameters / 1e9).toPrecision(3)} B`;
}
