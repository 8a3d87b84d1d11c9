/** The drawings of report.html, as inline SVG. Colours are the page's variables, so that they follow light and dark. */
import { formatNumber } from "../cli/format.ts";
import type { BlockRecord, LossCurve } from "./block_file.ts";

const CHART = { width: 180, height: 112, left: 46, right: 8, top: 16, bottom: 18 } as const;

/** A small chart for every block that reported losses. */
export function lossCharts(records: readonly BlockRecord[]): string {
  const charts = records.flatMap(({ layer, losses }) => {
    const curves = losses.filter((curve) => curve.losses.length > 0);
    return curves.length === 0 ? [] : [lossChart(`block ${layer + 1}`, curves)];
  });
  return charts.length === 0 ? "" : `<div class="charts">${charts.join("\n")}</div>`;
}

/** The same for the model as a whole; empty without losses. */
export function modelLossChart(losses: readonly number[]): string {
  if (losses.length === 0) return "";
  return `<div class="charts">${lossChart("the whole model", [{ part: null, losses }])}</div>`;
}

/** Of several parts, whose losses cannot be compared, each is drawn as a share of its first. */
function lossChart(title: string, curves: readonly LossCurve[]): string {
  const { width, height, left, right, top, bottom } = CHART;
  const shares = curves.length > 1;
  const scaled = curves.map(({ losses }) => losses.map((loss) => (shares ? (100 * loss) / (losses[0]! || 1) : loss)));
  const all = scaled.flat();
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const epochs = Math.max(...scaled.map((losses) => losses.length));
  const x = (i: number): number => left + ((width - left - right) * i) / Math.max(1, epochs - 1);
  const y = (loss: number): number =>
    high === low ? (top + height - bottom) / 2 : top + ((height - top - bottom) * (high - loss)) / (high - low);
  const [above, below] = apart(high, low).map((text) => (shares ? `${text} %` : text));
  const lines = curves.map(({ part, losses }, index) => {
    const [first, last] = apart(losses[0]!, losses.at(-1)!);
    const about = `<title>${part === null ? "" : `${escapeHtml(part)}: `}${first} to ${last}</title>`;
    const points = scaled[index]!.map((loss, i) => `${x(i).toFixed(1)},${y(loss).toFixed(1)}`);
    const [cx, cy] = points[0]!.split(",");
    return points.length === 1
      ? `<circle class="dot" cx="${cx}" cy="${cy}" r="2.5">${about}</circle>`
      : `<polyline class="curve" points="${points.join(" ")}">${about}</polyline>`;
  });
  const floor = high === low ? "" : label(left - 4, height - bottom, below!, "end");
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="loss of ${title}, ${above} to ${below}">
${label(left, 11, title)}
<path class="axis" d="M${left} ${top}V${height - bottom}H${width - right}"/>
${label(left - 4, high === low ? y(high) + 4 : top + 8, above!, "end")}
${floor}
${label(width - right, height - 4, epochs === 1 ? "1 epoch" : `${epochs} epochs`, "end")}
${lines.join("\n")}</svg>`;
}

/** Two numbers with as many digits as tell them apart, at most six. */
function apart(a: number, b: number): [string, string] {
  for (let digits = 3; ; digits++) {
    const texts: [string, string] = [formatNumber(a, digits), formatNumber(b, digits)];
    if (texts[0] !== texts[1] || a === b || digits === 6) return texts;
  }
}

/** Bars over all blocks; empty without calibration. */
export function outputErrorChart(records: readonly BlockRecord[], layers: number): string {
  const known = records.flatMap(({ layer, outputError }) => (outputError === null ? [] : [{ layer, outputError }]));
  if (known.length === 0) return "";
  const [width, height, left, bottom, top] = [720, 160, 46, 18, 8];
  const most = Math.max(...known.map(({ outputError }) => outputError), 1e-9);
  const floor = height - bottom;
  const step = (width - left) / layers;
  const bars = known.map(({ layer, outputError }) => {
    const tall = ((floor - top) * outputError) / most;
    const place = `x="${(left + step * (layer + 0.1)).toFixed(1)}" y="${(floor - tall).toFixed(1)}"`;
    const size = `width="${(step * 0.8).toFixed(1)}" height="${tall.toFixed(1)}"`;
    return `<rect class="dot" ${place} ${size}><title>block ${layer + 1}: ${percent(outputError)}</title></rect>`;
  });
  const middle = (top + floor) / 2;
  return `<div class="wide"><svg ${natural(width, height)} role="img" aria-label="output error by block">
<path class="axis" d="M${left} ${top}V${floor}H${width}M${left} ${middle}H${width}M${left} ${top}H${width}"/>
${label(left - 4, top + 4, percent(most), "end")}
${label(left - 4, middle + 4, percent(most / 2), "end")}
${label(left - 4, floor, "0 %", "end")}
${numbers(layers, (layer) => left + step * (layer + 0.5), height - 4)}
${bars.join("\n")}</svg></div>`;
}

/** Blocks across, linears down, the error as shade; linears that were left in 16 bits are outlined only. */
export function errorMap(records: readonly BlockRecord[]): string {
  const [first] = records;
  if (first === undefined) return "";
  const [cell, left, top] = [22, 80, 16];
  const names = Object.keys(first.linears).map(shortName);
  const all = records.flatMap(({ linears }) => Object.values(linears));
  const packed = all.filter(({ storage }) => storage.family !== "dense");
  // A quantizer of the user's own may leave everything dense: then nothing was left out.
  const shaded = new Set(packed.length > 0 ? packed : all);
  const errors = [...shaded].map(({ error }) => error);
  const [least, most] = [Math.min(...errors), Math.max(...errors)];
  const shade = (error: number): string => {
    const share = most === least ? 0.5 : 0.1 + (0.9 * (error - least)) / (most - least);
    return `style="fill: rgba(var(--heat), ${share.toFixed(3)})"`;
  };
  const height = top + cell * names.length + 34;
  const squares = records.flatMap(({ layer, linears }, column) =>
    Object.entries(linears).map(([module, linear], row) => {
      const { error } = linear;
      const text = `block ${layer + 1}, ${escapeHtml(module)}: ${percent(error)}`;
      const place = `x="${left + column * cell}" y="${top + row * cell}" width="${cell - 1}" height="${cell - 1}"`;
      return shaded.has(linear)
        ? `<rect ${place} ${shade(error)}><title>${text}</title></rect>`
        : `<rect ${place} class="kept"><title>${text}, in 16 bits</title></rect>`;
    }),
  );
  const labels = names.map((name, row) => label(left - 6, top + row * cell + 15, escapeHtml(name), "end"));
  const steps = most === least ? [least] : Array.from({ length: 6 }, (_, i) => least + ((most - least) * i) / 5);
  const legendTop = height - 22;
  const legend = steps.map((error, i) => {
    const x = left + 42 * i;
    return `<rect x="${x}" y="${legendTop}" width="41" height="8" ${shade(error)}/>${label(x, height - 2, percent(error))}`;
  });
  const width = left + Math.max(cell * records.length, 42 * steps.length);
  return `<div class="wide"><svg ${natural(width, height)} role="img" aria-label="weight error by block and linear">
${labels.join("")}
${numbers(records.length, (column) => left + cell * (column + 0.5) - 0.5, 11)}
${squares.join("\n")}
${legend.join("")}</svg></div>`;
}

/** Not scaled with the window, so that its letters stay as large as those beside it; a narrow window scrolls it. */
function natural(width: number, height: number): string {
  return `viewBox="0 0 ${width} ${height}" style="width: ${width}px; max-width: none"`;
}

/** Names blocks 1 .. count: of many the first and every fifth. */
function numbers(count: number, x: (index: number) => number, y: number): string {
  const shown = Array.from({ length: count }, (_, i) => i).filter((i) => count <= 10 || i === 0 || i % 5 === 4);
  return shown.map((index) => label(Number(x(index).toFixed(1)), y, `${index + 1}`, "middle")).join("");
}

function label(x: number, y: number, text: string, anchor: "start" | "middle" | "end" = "start"): string {
  return `<text x="${x}" y="${y}"${anchor === "start" ? "" : ` text-anchor="${anchor}"`}>${text}</text>`;
}

/** 0.123 -> 12.3 % */
export function percent(share: number): string {
  return `${formatNumber(100 * share)} %`;
}

/** model.layers.3.self_attn.q_proj -> q_proj */
function shortName(module: string): string {
  return module.slice(module.lastIndexOf(".") + 1);
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
