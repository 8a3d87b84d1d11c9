/** Reads Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/), as GET /metrics writes it. */

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Samples by name, in the order of the text. */
export type Metrics = ReadonlyMap<string, readonly Sample[]>;

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? +(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:\\.|[^"\\])*)"/g;

/** Lines that are no samples are passed over. */
export function parseMetrics(text: string): Metrics {
  const metrics = new Map<string, Sample[]>();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value = ""] = LINE.exec(line) ?? [];
    if (name === undefined) continue;
    const pairs = [...labels.matchAll(LABEL)].map(
      ([, key = "", escaped = ""]) => [key, unescapeLabel(escaped)] as const,
    );
    const sample = { labels: Object.fromEntries(pairs), value: toNumber(value) };
    const known = metrics.get(name);
    if (known) known.push(sample);
    else metrics.set(name, [sample]);
  }
  return metrics;
}

/** The sum over all labels; undefined where the server does not tell this metric, or tells that it is no number. */
export function total(metrics: Metrics, name: string): number | undefined {
  const sum = metrics.get(name)?.reduce((sum, { value }) => sum + value, 0);
  return Number.isFinite(sum) ? sum : undefined;
}

/** Upper bounds of a histogram's buckets and how many values are at most that, over all other labels; ascending. */
export type Buckets = readonly (readonly [bound: number, count: number])[];

export function buckets(metrics: Metrics, name: string): Buckets {
  const counts = new Map<number, number>();
  for (const { labels, value } of metrics.get(`${name}_bucket`) ?? []) {
    const bound = toNumber(labels.le ?? "");
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/**
 * The value below which `share` of what came between two readings lies, by straight lines within a bucket, as PromQL's
 * histogram_quantile has it. Undefined when nothing came, or the counts began again.
 */
export function quantile(share: number, before: Buckets, after: Buckets): number | undefined {
  const earlier = new Map(before);
  const counts = after.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)] as const);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return undefined;
  const rank = share * all;
  const index = counts.findIndex(([, count]) => count >= rank);
  const [bound = 0, count = 0] = counts[index] ?? [];
  const [lowBound, lowCount] = counts[index - 1] ?? [0, 0];
  if (bound === Number.POSITIVE_INFINITY) return lowBound;
  return count === lowCount ? bound : lowBound + ((bound - lowBound) * (rank - lowCount)) / (count - lowCount);
}

function toNumber(text: string): number {
  return Number(text.replace(/^([+-]?)Inf$/, "$1Infinity"));
}

function unescapeLabel(text: string): string {
  return text.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
}
