/** The drawings of report.html, as inline SVG. Colours are the page's variables, so that they follow light and dark. */
import type { BlockRecord } from "./block_file.ts";

const CHART = { width: 220, height: 120, left: 46, right: 8, top: 16, bottom: 18 } as const;

/** A small chart for every block that reported losses. */
export function lossCharts(records: readonly BlockRecord[]): string {
  const charts = records.flatMap(({ layer, losses }) =>
    losses
      .filter((curve) => curve.losses.length > 0)
      .map((curve) =>
        lossChart(escapeHtml(`block ${layer}${curve.part === null ? "" : `, ${curve.part}`}`), curve.losses),
      ),
  );
  return charts.length === 0 ? "" : `<div class="charts">${charts.join("\n")}</div>`;
}

function lossChart(title: string, losses: readonly number[]): string {
  const { width, height, left, right, top, bottom } = CHART;
  const low = Math.min(...losses);
  const high = Math.max(...losses);
  const x = (i: number): number => left + ((width - left - right) * i) / Math.max(1, losses.length - 1);
  const y = (loss: number): number =>
    high === low ? (top + height - bottom) / 2 : top + ((height - top - bottom) * (high - loss)) / (high - low);
  const points = losses.map((loss, i) => `${x(i).toFixed(1)},${y(loss).toFixed(1)}`);
  const line =
    points.length === 1
      ? `<circle class="dot" cx="${x(0)}" cy="${y(losses[0]!)}" r="2.5"/>`
      : `<polyline class="curve" points="${points.join(" ")}"/>`;
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">
<text x="${left}" y="11">${title}</text>
<path class="axis" d="M${left} ${top}V${height - bottom}H${width - right}"/>
<text x="${left - 4}" y="${top + 8}" text-anchor="end">${high.toPrecision(3)}</text>
<text x="${left - 4}" y="${height - bottom}" text-anchor="end">${low.toPrecision(3)}</text>
<text x="${width - right}" y="${height - 4}" text-anchor="end">${losses.length} epochs</text>
${line}</svg>`;
}

/** Bars over all blocks; empty without calibration. */
export function outputErrorChart(records: readonly BlockRecord[], layers: number): string {
  const known = records.filter(({ outputError }) => outputError !== null);
  if (known.length === 0) return "";
  const [width, height, left, bottom, top] = [720, 160, 46, 18, 8];
  const most = Math.max(...known.map(({ outputError }) => outputError!), 1e-9);
  const step = (width - left) / layers;
  const bars = known.map(({ layer, outputError }) => {
    const tall = ((height - top - bottom) * outputError!) / most;
    const x = left + step * layer + step * 0.1;
    const percent = (100 * outputError!).toFixed(2);
    const place = `x="${x.toFixed(1)}" y="${(height - bottom - tall).toFixed(1)}"`;
    const size = `width="${(step * 0.8).toFixed(1)}" height="${tall.toFixed(1)}"`;
    return `<rect class="dot" ${place} ${size}><title>block ${layer}: ${percent} %</title></rect>`;
  });
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="output error by block">
<path class="axis" d="M${left} ${top}V${height - bottom}H${width}"/>
<text x="${left - 4}" y="${top + 8}" text-anchor="end">${(100 * most).toPrecision(3)} %</text>
<text x="${left}" y="${height - 4}">block 0</text><text x="${width}" y="${height - 4}" text-anchor="end">${layers - 1}</text>
${bars.join("\n")}</svg>`;
}

/** Blocks across, linears down, the error as shade. */
export function errorMap(records: readonly BlockRecord[]): string {
  const [first] = records;
  if (first === undefined) return "";
  const [cell, left, top] = [22, 80, 16];
  const names = Object.keys(first.linears).map(shortName);
  const errors = records.flatMap(({ linears }) => Object.values(linears).map(({ error }) => error));
  const [least, most] = [Math.min(...errors), Math.max(...errors)];
  const width = left + cell * records.length;
  const height = top + cell * names.length + 18;
  const squares = records.flatMap(({ layer, linears }, column) =>
    Object.entries(linears).map(([module, { error }], row) => {
      const shade = most === least ? 0.5 : 0.1 + (0.9 * (error - least)) / (most - least);
      const place = `x="${left + column * cell}" y="${top + row * cell}" width="${cell - 1}" height="${cell - 1}"`;
      const text = `block ${layer}, ${shortName(module)}: ${(100 * error).toFixed(1)} %`;
      return `<rect ${place} style="fill: rgba(var(--heat), ${shade.toFixed(3)})"><title>${text}</title></rect>`;
    }),
  );
  const labels = names.map((name, row) => {
    return `<text x="${left - 6}" y="${top + row * cell + 15}" text-anchor="end">${name}</text>`;
  });
  const columns = records.map(({ layer }, column) =>
    layer % 5 === 0 ? `<text x="${left + column * cell + 4}" y="11">${layer}</text>` : "",
  );
  const box = `viewBox="0 0 ${width} ${height}" style="width: ${width}px; max-width: none"`;
  return `<div class="wide"><svg ${box} role="img" aria-label="weight error by block and linear">
${labels.join("")}${columns.join("")}
${squares.join("\n")}
<text x="${left}" y="${height - 4}">${(100 * least).toFixed(1)} % to ${(100 * most).toFixed(1)} %</text></svg></div>`;
}

/** model.layers.3.self_attn.q_proj -> q_proj */
function shortName(module: string): string {
  return module.slice(module.lastIndexOf(".") + 1);
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
