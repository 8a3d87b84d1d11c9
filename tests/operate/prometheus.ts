/** Reads Prometheus' text format strictly, as its documentation has it, so that what a scraper would refuse is refused here. */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly samples: readonly Sample[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/y;
const SUFFIXES = /_(bucket|sum|count)$/;

/** Families by name. Throws an Error that shows the line at fault. */
export function parsePrometheus(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("The last line has no end");
  const families = new Map<string, { type: string; samples: Sample[] }>();
  for (const line of text.slice(0, -1).split("\n")) {
    const [, type, name = "", rest = ""] = /^# (TYPE|HELP) (\S+) (.+)$/.exec(line) ?? [];
    if (type === "HELP") continue;
    if (type === "TYPE") {
      if (families.has(name)) throw new Error(`A family comes twice: ${line}`);
      families.set(name, { type: rest, samples: [] });
      continue;
    }
    const sample = parseSample(line);
    const family = families.get(sample.name) ?? families.get(sample.name.replace(SUFFIXES, ""));
    if (!family) throw new Error(`A sample has no type: ${line}`);
    family.samples.push(sample);
  }
  for (const [name, { type, samples }] of families) if (type === "histogram") checkHistogram(name, samples);
  return families;
}

function parseSample(line: string): Sample {
  const [, name, pairs = "", number] = SAMPLE.exec(line) ?? [];
  const value = Number(number);
  if (name === undefined || Number.isNaN(value)) throw new Error(`This is no sample: ${line}`);
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < pairs.length) {
    const [, label, text] = LABEL.exec(pairs) ?? [];
    if (label === undefined || text === undefined) throw new Error(`These are no labels: ${line}`);
    labels[label] = text.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
  }
  return { name, labels, value };
}

/** Buckets ascend in bound and count, and the last holds all. */
function checkHistogram(name: string, samples: readonly Sample[]): void {
  const buckets = samples.filter((sample) => sample.name === `${name}_bucket`);
  const bounds = buckets.map(({ labels: { le = "" } }) => (le === "+Inf" ? Number.POSITIVE_INFINITY : Number(le)));
  const ascends = (values: readonly number[], strictly: boolean) =>
    values.every((value, i) => i === 0 || value > values[i - 1]! || (!strictly && value === values[i - 1]));
  const counts = buckets.map(({ value }) => value);
  const count = samples.find((sample) => sample.name === `${name}_count`)?.value;
  const isComplete = bounds.at(-1) === Number.POSITIVE_INFINITY && counts.at(-1) === count;
  if (!isComplete || !ascends(bounds, true) || !ascends(counts, false)) throw new Error(`${name} is no histogram`);
}
