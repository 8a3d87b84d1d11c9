/** report.html of a run: loss curves, weight errors and settings on one page that needs no script and no network. */
import { writeFileAtomically } from "../formats/atomic.ts";
import type { JsonObject } from "../formats/json.ts";
import type { BlockRecord } from "./block_file.ts";
import { errorMap, escapeHtml, lossCharts, outputErrorChart } from "./report_charts.ts";

export interface ReportHead {
  readonly source: string;
  readonly out: string;
  readonly calibration: { readonly data: string | null };
}

const STYLE = `
:root {
  color-scheme: light dark;
  --ink: #1d2733; --soft: #5d6b7a; --line: #d7dee6; --paper: #fff; --accent: #0b6bcb; --heat: 11, 107, 203;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf1; --soft: #94a3b3; --line: #33404e; --paper: #14191f; --accent: #63b3ff; --heat: 99, 179, 255; }
}
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
}
h1 { font-size: 1.4rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p { color: var(--soft); margin: .3rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .15rem 1.2rem .15rem 0; border-bottom: 1px solid var(--line); font-weight: normal; }
th { color: var(--soft); }
.wide { overflow-x: auto; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
.axis { stroke: var(--line); fill: none; }
.curve { stroke: var(--accent); fill: none; stroke-width: 1.5; }
.dot { fill: var(--accent); }
`;

/** Writes the page anew; it always shows what is finished. */
export async function writeReport(
  path: string,
  head: ReportHead,
  settings: JsonObject,
  records: readonly BlockRecord[],
  layers: number,
): Promise<void> {
  const page = new TextEncoder().encode(reportPage(head, settings, records, layers));
  await writeFileAtomically(path, (write) => write(page));
}

export function reportPage(
  head: ReportHead,
  settings: JsonObject,
  records: readonly BlockRecord[],
  layers: number,
): string {
  const state = records.length === layers ? `${layers} blocks` : `${records.length} of ${layers} blocks finished`;
  const seconds = records.reduce((sum, record) => sum + record.seconds, 0);
  const title = `${settings.method}, ${settings.bits} bits, groups of ${settings.group}`;
  const sections = [
    section("Loss of each block", "Mean over an epoch; every chart has its own scale.", lossCharts(records)),
    section(
      "Output error",
      "How far the quantized model's hidden states behind each block are from the full-precision model's, relative.",
      outputErrorChart(records, layers),
    ),
    section(
      "Weight error",
      "|W&#39; &minus; W| / |W| of each linear, its LoRA added to W&#39;. The stronger the colour, the larger.",
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
<p>${escapeHtml(head.source)} &rarr; ${escapeHtml(head.out)}: ${state}, ${seconds.toFixed(0)} s</p>
${sections.join("")}
<h2>Settings</h2>
<table>${settingRows({ ...settings, "data file": head.calibration.data })}</table>
<h2>Blocks</h2>
<div class="wide"><table>${blockRows(records)}</table></div>
</html>
`;
}

/** Nothing where there is nothing to draw. */
function section(title: string, remark: string, body: string): string {
  return body === "" ? "" : `<h2>${title}</h2>\n<p>${remark}</p>\n${body}\n`;
}

function settingRows(settings: JsonObject): string {
  return Object.entries(settings)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `<tr><th>${escapeHtml(key)}</th><td>${escapeHtml(show(value))}</td></tr>`)
    .join("\n");
}

function blockRows(records: readonly BlockRecord[]): string {
  const head =
    "<tr><th>block</th><th>seconds</th><th>peak memory</th><th>first loss</th><th>last loss</th><th>output error</th></tr>";
  const rows = records.map(({ layer, seconds, peakBytes, losses, outputError }) => {
    const first = losses.map((curve) => curve.losses[0]!.toExponential(2)).join(", ");
    const last = losses.map((curve) => curve.losses.at(-1)!.toExponential(2)).join(", ");
    const output = outputError === null ? "" : `${(100 * outputError).toFixed(1)} %`;
    const cells = [`${layer}`, seconds.toFixed(1), `${(peakBytes / 1e9).toFixed(2)} GB`, first, last, output];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  return [head, ...rows].join("\n");
}

function show(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
