/** Prometheus' text format, version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). */

export type Labels = Readonly<Record<string, string>>;

export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** A metric with one value per set of labels. */
export function simple(
  name: string,
  type: "counter" | "gauge",
  help: string,
  samples: Iterable<readonly [labels: Labels, value: number]>,
): string {
  const lines = [...samples].map(([labels, value]) => `${name}${braces(labels)} ${number(value)}\n`);
  return `${heading(name, type, help)}${lines.join("")}`;
}

/** Counts of values up to each of some bounds. */
export class Histogram {
  readonly #bounds: readonly number[];
  /** One per bound and one beyond the last; not cumulative yet. */
  readonly #counts: number[];
  #sum = 0;

  /** `bounds`: ascending. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  /** Notes `value`, `times` times. */
  observe(value: number, times = 1): void {
    const found = this.#bounds.findIndex((bound) => value <= bound);
    const bucket = found < 0 ? this.#bounds.length : found;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + times;
    this.#sum += value * times;
  }

  text(name: string, help: string, labels: Labels): string {
    let below = 0;
    const buckets = this.#counts.map((count, index) => {
      below += count;
      const le = index < this.#bounds.length ? number(this.#bounds[index] ?? 0) : "+Inf";
      return `${name}_bucket${braces({ ...labels, le })} ${below}\n`;
    });
    const sum = `${name}_sum${braces(labels)} ${number(this.#sum)}\n`;
    return `${heading(name, "histogram", help)}${buckets.join("")}${sum}${name}_count${braces(labels)} ${below}\n`;
  }
}

function heading(name: string, type: string, help: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

function braces(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function number(value: number): string {
  return Number.isInteger(value) ? value.toFixed(0) : `${value}`;
}
