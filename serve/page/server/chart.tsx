/** A line over the last minutes, filled to its foot, with its latest value beside its name. */
import { formatNumber } from "../ui/format.ts";

export interface ChartProps {
  readonly title: string;
  /** Oldest first; undefined: nothing was measured then. */
  readonly values: readonly (number | undefined)[];
  /** How many values the chart is wide; the newest stands at its right side. */
  readonly width: number;
  /** The least that its height stands for; larger values stretch it. */
  readonly least: number;
  /** A second line, drawn without filling. */
  readonly second?: { readonly name: string; readonly values: readonly (number | undefined)[] };
  readonly name?: string;
  format?(value: number): string;
}

const HEIGHT = 100;

export function Chart({ title, values, width, least, second, name, format = formatNumber }: ChartProps) {
  const all = [...values, ...(second?.values ?? [])].filter((value) => value !== undefined);
  const top = Math.max(least, ...all);
  const latest = values.findLast((value) => value !== undefined);
  const secondLatest = second?.values.findLast((value) => value !== undefined);
  const say = (value: number | undefined) => (value === undefined ? "–" : format(value));
  const spoken = `${title}: ${say(latest)} now, ${all.length > 0 ? `${say(Math.max(...all))} at most` : "nothing measured yet"}`;
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="chart-value">
          {say(latest)}
          {name && <small>{name}</small>}
        </span>
        {second && (
          <span class="chart-value second">
            {say(secondLatest)}
            <small>{second.name}</small>
          </span>
        )}
      </figcaption>
      <svg viewBox={`0 0 ${width - 1} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={spoken}>
        {runs(values, width).map((points) => (
          <Area key={points[0]?.x} points={points} top={top} />
        ))}
        {runs(second?.values ?? [], width).map((points) => (
          <path key={points[0]?.x} class="line second" d={line(points, top)} />
        ))}
      </svg>
      <span class="scale" aria-hidden="true">
        {format(top)}
      </span>
    </figure>
  );
}

interface Point {
  readonly x: number;
  readonly value: number;
}

function Area({ points, top }: { points: readonly Point[]; top: number }) {
  const shape = line(points, top);
  return (
    <>
      <path class="area" d={`${shape}V${HEIGHT}H${points[0]?.x}Z`} />
      <path class="line" d={shape} />
    </>
  );
}

/** Stretches without gaps; a single value becomes a short stroke. */
function runs(values: readonly (number | undefined)[], width: number): readonly (readonly Point[])[] {
  const found: Point[][] = [];
  let open = false;
  values.forEach((value, index) => {
    if (value === undefined) {
      open = false;
      return;
    }
    const point = { x: width - values.length + index, value };
    if (open) found.at(-1)?.push(point);
    else found.push([point]);
    open = true;
  });
  return found.map((points) => (points.length === 1 ? [{ ...points[0]!, x: points[0]!.x - 0.5 }, ...points] : points));
}

function line(points: readonly Point[], top: number): string {
  const y = (value: number) => (HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1);
  return points.map(({ x, value }, index) => `${index === 0 ? "M" : "L"}${x} ${y(value)}`).join("");
}
