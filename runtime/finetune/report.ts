/** report.html of a run: curves of losses, norms and rates, and settings, on one page that needs no script and no network. */
import { formatBytes, formatDuration, formatNumber } from "../cli/format.ts";
import { writeText } from "../formats/atomic.ts";
import type { JsonObject } from "../formats/json.ts";
import { STYLE } from "../quantize/report.ts";
import { escapeHtml } from "../quantize/report_charts.ts";
import type { DataFile } from "./data/mod.ts";
import type { FinetuneResult } from "./options.ts";
import type { EvalRecord, LogRecord, StepRecord } from "./records.ts";
import { type Curve, curveChart } from "./report_chart.ts";
import { OPTION_FLAGS } from "./settings.ts";

export interface ReportHead {
  readonly model: string;
  readonly out: string;
  readonly data: { readonly files: readonly DataFile[] };
  readonly validation: { readonly file: string | null };
  readonly teacher: string | null;
}

/** Writes the page anew; it always shows what has happened so far. */
export async function writeReport(
  path: string,
  head: ReportHead,
  settings: JsonObject,
  records: readonly LogRecord[],
  steps: number,
  result?: FinetuneResult,
): Promise<void> {
  await writeText(path, reportPage(head, settings, records, steps, result));
}

export function reportPage(
  head: ReportHead,
  settings: JsonObject,
  records: readonly LogRecord[],
  steps: number,
  result?: FinetuneResult,
): string {
  const made = records.filter((record) => record.type === "step");
  const evals = records.filter((record) => record.type === "eval");
  const distills = settings.objective === "distill";
  const title = `${distills ? "distillation" : "finetuning"}, ${steps} steps`;
  const curve = (name: string, part: (record: StepRecord) => number, dots: Curve["dots"] = []): Curve => ({
    name,
    points: made.map((record) => [record.step, part(record)] as const),
    dots,
  });
  const loss = curve(
    "loss",
    (record) => record.loss,
    evals.map((record) => [record.step, record.loss] as const),
  );
  const sections = [
    section("Loss", `${lossRemark(distills)} Dots: validation.`, curveChart(loss, steps)),
    distills
      ? section(
          "Cross-entropy with the data",
          "Nats a token.",
          curveChart(
            curve("nll", (r) => r.nll ?? 0),
            steps,
          ),
        )
      : "",
    section(
      "Gradient norm",
      "Before clipping.",
      curveChart(
        curve("norm", (r) => r.norm),
        steps,
      ),
    ),
    section(
      "Learning rate",
      "",
      curveChart(
        curve("rate", (r) => r.learningRate),
        steps,
      ),
    ),
    section(
      "Tokens per second",
      "Padding is not counted.",
      curveChart(
        curve("tokens/s", (r) => r.tokensPerSecond),
        steps,
      ),
    ),
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(head.model)} &rarr; ${escapeHtml(head.out)}<br>${summary(made, evals, steps, result)}</p>
${sections.join("")}
${section("Validation", "Perplexity is that of the data; the result holds the values of the row that says so.", evalTable(evals, result))}
<h2>Settings</h2>
<table>${settingRows(head, settings)}</table>
</html>
`;
}

function lossRemark(distills: boolean): string {
  return distills ? "What is minimised: divergence from the teacher and cross-entropy, mixed." : "Nats a token.";
}

function section(title: string, remark: string, body: string): string {
  return body === "" ? "" : `<h2>${title}</h2>\n<p>${remark}</p>\n${body}\n`;
}

function summary(
  made: readonly StepRecord[],
  evals: readonly EvalRecord[],
  steps: number,
  result: FinetuneResult | undefined,
): string {
  const last = made.at(-1);
  if (result === undefined) return last ? `${last.step} of ${steps} steps made` : "no step was made yet";
  const { tokens, tokensPerSecond, seconds, peakBytes, parameters } = result;
  const [first] = evals;
  const best = evals.find(({ step }) => step === result.best?.step);
  const validation =
    first && best
      ? `; validation loss ${formatNumber(first.loss, 4)} before, ${formatNumber(best.loss, 4)} after step ${best.step}`
      : "";
  return `${steps} steps over ${tokens} tokens with loss, ${parameters} values trained${validation}; ${formatDuration(seconds)}, \
${formatNumber(tokensPerSecond)} tokens/s, at most ${formatBytes(peakBytes)} of memory`;
}

function evalTable(evals: readonly EvalRecord[], result: FinetuneResult | undefined): string {
  if (evals.length === 0) return "";
  const rows = evals.map((record) => {
    const { step, loss, perplexity, tokens, seconds } = record;
    const mark = step === result?.best?.step ? `${step}, kept` : `${step}`;
    const cells = [mark, formatNumber(loss, 4), formatNumber(perplexity, 4), `${tokens}`, seconds.toFixed(1)];
    return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const head = ["after step", "loss", "perplexity", "tokens", "seconds"].map((name) => `<th>${name}</th>`).join("");
  return `<div class="wide"><table class="numbers">${[`<tr>${head}</tr>`, ...rows].join("\n")}</table></div>`;
}

/** How the others of a run's settings are shown. */
const OTHERS: Readonly<Record<string, string>> = {
  start: "--start",
  model: "model (fingerprint)",
  data: "examples (SHA-256)",
  examples: "examples",
  validation: "validation examples (SHA-256)",
  validationExamples: "validation examples",
  evalEvery: "--eval-every",
  rowLength: "tokens of a row",
  teacher: "teacher (fingerprint)",
  weightsFrom: "weights from (fingerprint)",
};

function settingRows({ data, validation, teacher }: ReportHead, settings: JsonObject): string {
  const flags: Readonly<Record<string, string>> = { ...OPTION_FLAGS, ...OTHERS };
  const read = data.files.map(({ file, amount }) => (amount === null ? file : `${file}@${amount}`));
  const files = { "--data": read, "--val-data": validation.file, "--teacher": teacher };
  const rows = [
    ...Object.entries(settings).map(([key, value]) => [flags[key] ?? key, value] as const),
    ...Object.entries(files),
  ];
  return rows
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(show(value))}</td></tr>`)
    .join("\n");
}

function show(value: unknown): string {
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
