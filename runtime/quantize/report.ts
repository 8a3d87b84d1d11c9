/** report.html of a run: loss curves, weight errors and settings on one page that needs no script and no network. */
import { formatBytes, formatDuration, formatNumber } from "../cli/format.ts";
import { writeText } from "../formats/atomic.ts";
import type { JsonObject } from "../formats/json.ts";
import type { BlockRecord } from "./block_file.ts";
import type { MethodOption } from "./method.ts";
import type { ModelRecord } from "./model_phase.ts";
import { errorMap, escapeHtml, lossCharts, modelLossChart, outputErrorChart, percent } from "./report_charts.ts";
import { OPTION_FLAGS } from "./settings.ts";

export interface ReportHead {
  readonly source: string;
  readonly out: string;
  readonly calibration: { readonly data: string | null };
  readonly method: { readonly uses: readonly MethodOption[] };
}

/** What a run ended with. */
export interface ReportResult {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly modelBytes: number;
  readonly adapterBytes: number;
  readonly bitsPerWeight: number;
  /** Of what the method did to the whole model behind the last block; null where it does no such thing. */
  readonly model: ModelRecord | null;
}

export const STYLE = `
:root {
  color-scheme: light dark;
  --ink: #1d2733; --soft: #5d6b7a; --line: #d7dee6; --paper: #fff; --accent: #0b6bcb; --heat: 11, 107, 203;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf1; --soft: #94a3b3; --line: #33404e; --paper: #14191f; --accent: #63b3ff; --heat: 99, 179, 255; }
}
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere;
}
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p { color: var(--soft); margin: .3rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid var(--line); font-weight: normal; }
th { color: var(--soft); white-space: nowrap; vertical-align: top; }
.numbers th, .numbers td { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: 1rem; }
.axis { stroke: var(--line); fill: none; }
.curve { stroke: var(--accent); fill: none; stroke-width: 1.5; }
.dot { fill: var(--accent); }
.kept { fill: none; stroke: var(--line); }
`;

/** Writes the page anew; it always shows what is finished. */
export async function writeReport(
  path: string,
  head: ReportHead,
  settings: JsonObject,
  records: readonly BlockRecord[],
  layers: number,
  result?: ReportResult,
): Promise<void> {
  await writeText(path, reportPage(head, settings, records, layers, result));
}

export function reportPage(
  head: ReportHead,
  settings: JsonObject,
  records: readonly BlockRecord[],
  layers: number,
  result?: ReportResult,
): string {
  const title = `${settings.method}, ${settings.bits} bits, groups of ${settings.group}`;
  const several = records.some(({ losses }) => losses.length > 1);
  const scale = several
    ? "a line for each part that trains by itself, as a share of its first epoch"
    : "every chart has its own scale, which does not begin at 0";
  const sections = [
    section("Loss of each block", `Mean over an epoch; ${scale}.`, lossCharts(records)),
    section(
      "Output error",
      "How far the quantized model's hidden states behind each block are from the full-precision model's, relative.",
      outputErrorChart(records, layers),
    ),
    section(
      "Loss of the whole model",
      `Mean over an epoch, behind the last block${result?.model ? `, in ${formatDuration(result.model.seconds)}` : ""}.`,
      modelLossChart(result?.model?.losses ?? []),
    ),
    section(
      "Weight error",
      "|W&#39; &minus; W| / |W| of each linear, its LoRA added. The stronger the colour, the larger; outlined: left in 16 bits.",
      errorMap(records),
    ),
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(head.source)} &rarr; ${escapeHtml(head.out)}<br>${summary(records, layers, result)}</p>
${sections.join("")}
<h2>Settings</h2>
<table>${settingRows(head, settings)}</table>
<h2>Blocks</h2>
<div class="wide"><table class="numbers">${blockRows(records)}</table></div>
</html>
`;
}

function summary(records: readonly BlockRecord[], layers: number, result: ReportResult | undefined): string {
  if (result === undefined) {
    const seconds = records.reduce((sum, record) => sum + record.seconds, 0);
    return `${records.length} of ${layers} blocks finished in ${formatDuration(seconds)}`;
  }
  const { modelBytes, adapterBytes, bitsPerWeight, seconds, peakBytes } = result;
  const lora = adapterBytes > 0 ? ` and ${formatBytes(adapterBytes)} of LoRA` : "";
  const size = `${formatBytes(modelBytes)}${lora}, ${bitsPerWeight.toFixed(2)} bits per weight of the blocks`;
  return `${layers} blocks: ${size}; ${formatDuration(seconds)}, at most ${formatBytes(peakBytes)} of memory`;
}

/** Nothing where there is nothing to draw. */
function section(title: string, remark: string, body: string): string {
  return body === "" ? "" : `<h2>${title}</h2>\n<p>${remark}</p>\n${body}\n`;
}

/** How the others of a run's settings are shown. */
const OTHERS: Readonly<Record<string, string>> = {
  method: "--method",
  quantizer: "--quantizer (SHA-256)",
  seed: "--seed",
  keep: "--keep",
  embedBits: "--embed-bits",
  samples: "samples",
  length: "tokens of a sample",
  data: "samples' tokens (SHA-256)",
  source: "model (fingerprint)",
  initFrom: "--init-from (fingerprint)",
};

/** What the method heeds and what identifies the run, as flags. */
function settingRows({ method, calibration }: ReportHead, settings: JsonObject): string {
  const flags: Readonly<Record<string, string>> = { ...OPTION_FLAGS, ...OTHERS };
  const ignored = (key: string): boolean => key in OPTION_FLAGS && !method.uses.includes(key as MethodOption);
  const file = calibration.data === null ? [] : [["--data", calibration.data] as const];
  const rows = Object.entries(settings)
    .filter(([key, value]) => !ignored(key) && value !== null && value !== undefined)
    .map(([key, value]) => [flags[key] ?? key, show(value)] as const);
  return [...rows, ...file]
    .map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`)
    .join("\n");
}

function blockRows(records: readonly BlockRecord[]): string {
  const trained = records.some(({ losses }) => losses.length === 1);
  const columns = [
    ["block", ({ layer }: BlockRecord) => `${layer + 1}`],
    ["seconds", ({ seconds }: BlockRecord) => seconds.toFixed(1)],
    ["peak memory", ({ peakBytes }: BlockRecord) => formatBytes(peakBytes)],
    ...(trained
      ? ([
          ["first loss", ({ losses }: BlockRecord) => lossOf(losses, 0)],
          ["last loss", ({ losses }: BlockRecord) => lossOf(losses, -1)],
        ] as const)
      : []),
    ["weight error", ({ linears }: BlockRecord) => percent(mean(Object.values(linears).map(({ error }) => error)))],
    ["output error", ({ outputError }: BlockRecord) => (outputError === null ? "" : percent(outputError))],
  ] as const;
  const head = columns.map(([name]) => `<th>${name}</th>`).join("");
  const rows = records.map((record) => `<tr>${columns.map(([, cell]) => `<td>${cell(record)}</td>`).join("")}</tr>`);
  return [`<tr>${head}</tr>`, ...rows].join("\n");
}

function lossOf(losses: BlockRecord["losses"], epoch: number): string {
  const loss = losses.length === 1 ? losses[0]!.losses.at(epoch) : undefined;
  return loss === undefined ? "" : formatNumber(loss, 4);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

function show(value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
