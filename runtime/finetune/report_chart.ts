/** A curve over a run's steps as inline SVG. Colours are the page's variables, so that they follow light and dark. */
import { formatNumber } from "../cli/format.ts";

export type Point = readonly [step: number, value: number];

export interface Curve {
  readonly name: string;
  readonly points: readonly Point[];
  /** Drawn as dots on the same scale. */
  readonly dots: readonly Point[];
}

const CHART = { width: 720, height: 200, left: 68, right: 8, top: 10, bottom: 20 } as const;
/** More points than this are drawn as means of their neighbours. */
const MOST_POINTS = 360;

/** Empty where there is nothing to draw. */
export function curveChart({ name, points, dots }: Curve, steps: number): string {
  const drawn = thinned(points);
  const values = [...drawn, ...dots].map(([, value]) => value).filter(Number.isFinite);
  if (values.length === 0) return "";
  const { width, height, left, right, top, bottom } = CHART;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const floor = height - bottom;
  const x = (step: number): string => (left + ((width - left - right) * step) / Math.max(1, steps)).toFixed(1);
  const y = (value: number): string =>
    (high === low ? (top + floor) / 2 : top + ((floor - top) * (high - value)) / (high - low)).toFixed(1);
  const line = drawn.map(([step, value]) => `${x(step)},${y(value)}`).join(" ");
  const marks = dots.map(([step, value]) => {
    const about = `after step ${step}: ${formatNumber(value, 4)}`;
    return `<circle class="dot" cx="${x(step)}" cy="${y(value)}" r="3"><title>${about}</title></circle>`;
  });
  const label = (at: string, text: string): string =>
    `<text x="${left - 6}" y="${Number(at) + 4}" text-anchor="end">${text}</text>`;
  const scale =
    high === low
      ? label(y(high), formatNumber(high))
      : label(y(high), formatNumber(high)) + label(y(low), formatNumber(low));
  const about = `${name}, ${formatNumber(low)} to ${formatNumber(high)}`;
  return `<div class="wide"><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${about}">
<path class="axis" d="M${left} ${top}V${floor}H${width - right}"/>
${scale}
<text x="${left}" y="${height - 4}">0</text><text x="${width - right}" y="${height - 4}" text-anchor="end">${steps} steps</text>
<polyline class="curve" points="${line}"/>
${marks.join("\n")}</svg></div>`;
}

function thinned(points: readonly Point[]): readonly Point[] {
  const each = Math.ceil(points.length / MOST_POINTS);
  if (each <= 1) return points;
  return Array.from({ length: Math.ceil(points.length / each) }, (_, i) => {
    const part = points.slice(i * each, (i + 1) * each);
    const mean = (place: 0 | 1): number => part.reduce((sum, point) => sum + point[place], 0) / part.length;
    return [mean(0), mean(1)];
  });
}
