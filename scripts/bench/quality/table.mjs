/** From results of single rows to the Markdown that stands in the README. */
import { machinesOf, markdownTable, perplexity, same } from "../markdown.mjs";
import { median } from "../report.mjs";

/** Map.groupBy, which Node 20 does not have. */
function groupBy(values, keyOf) {
  const groups = new Map();
  for (const value of values) {
    const key = keyOf(value);
    groups.set(key, [...(groups.get(key) ?? []), value]);
  }
  return groups;
}

/**
 * Results of one variant, seeds taken together.
 *
 * @typedef {object} Line
 * @property {string} label
 * @property {number | null} bits null: full precision
 * @property {number | null} group
 * @property {number} rank of the LoRA, 0 without
 * @property {number} ppl median over the seeds
 * @property {readonly number[]} ppls of all seeds
 * @property {number | null} seconds median
 * @property {number | null} peakBytes largest
 * @property {number} bitsPerWeight
 */

/**
 * @param {readonly object[]} results as row.mjs makes them
 * @returns {Line[]} by bits, and by perplexity within
 */
export function linesOf(results) {
  const variants = groupBy(results, ({ variant }) => variant);
  const lines = [...variants.values()].map((seeds) => {
    const [first] = seeds;
    const orNull = (key, choose) => (first[key] === null ? null : choose(seeds.map((result) => result[key])));
    const ppls = seeds.map(({ ppl }) => ppl);
    return {
      ...{ label: first.label, bits: first.bits, group: first.group, rank: first.rank, ppl: median(ppls), ppls },
      seconds: orNull("seconds", median),
      peakBytes: orNull("peakBytes", (values) => Math.max(...values)),
      bitsPerWeight: first.bitsPerWeight,
    };
  });
  return lines.sort((a, b) => (a.bits ?? 0) - (b.bits ?? 0) || a.ppl - b.ppl || a.label.localeCompare(b.label));
}

/**
 * The best 4-bit model without LoRA that is no larger than `line`, or undefined where there is none.
 *
 * @param {Line} line
 * @param {readonly Line[]} lines
 */
export function plainFourBit(line, lines) {
  return lines
    .filter(({ bits, rank, bitsPerWeight }) => bits === 4 && rank === 0 && bitsPerWeight <= line.bitsPerWeight)
    .sort((a, b) => a.ppl - b.ppl)[0];
}

function perplexities({ ppl, ppls }) {
  if (ppls.length === 1) return perplexity(ppl);
  return `${perplexity(ppl)} (${perplexity(Math.min(...ppls))} to ${perplexity(Math.max(...ppls))})`;
}

function nameOf({ label, bits, group }) {
  if (bits === null) return label;
  return group === 64 ? label : `${label}, groups of ${group}`;
}

function cellsOf(line, lines) {
  const plain = line.bits !== null && line.bits < 4 ? plainFourBit(line, lines) : undefined;
  return [
    line.bits === null ? "16" : String(line.bits),
    nameOf(line),
    perplexities(line),
    line.seconds === null ? "" : line.seconds.toFixed(0),
    line.peakBytes === null ? "" : `${(line.peakBytes / 1e6).toFixed(0)} MB`,
    line.bitsPerWeight.toFixed(2),
    plain === undefined ? "" : `${perplexity(plain.ppl)} (${nameOf(plain)})`,
  ];
}

const HEADER = [
  "bits",
  "method",
  "perplexity",
  "seconds",
  "peak memory",
  "bits per weight",
  "plain 4-bit of that size",
];

/** The value that most have, or undefined where there are none. */
function commonest(values) {
  const [first] = [...groupBy(values, (value) => value)].sort(([, a], [, b]) => b.length - a.length);
  return first?.[0];
}

/** The budget of most rows, in a sentence; none where no row was calibrated. */
function describeCalibration(settings) {
  const calibrated = settings.filter(({ samples }) => samples !== undefined);
  if (calibrated.length === 0) return [];
  const budget = commonest(
    calibrated.map(({ samples, length }) => `${samples} samples of ${length} tokens of valid.txt`),
  );
  const epochs = commonest(calibrated.flatMap(({ epochs }) => (epochs === undefined ? [] : [epochs])));
  const training = epochs === undefined ? "" : `, ${epochs} epochs where a method trains`;
  return [`Calibration: ${budget}${training}; groups of 64; rows that differ say so.`];
}

/**
 * @param {readonly object[]} results at least one
 * @returns {string} Markdown without the markers
 */
export function renderTable(results) {
  const window = same(results, "the evaluation's window", ({ evaluation }) => evaluation.window);
  const windows = same(results, "the number of windows", ({ evaluation }) => evaluation.windows);
  const lines = linesOf(results);
  const calibration = describeCalibration(results.map(({ settings }) => settings));
  return [
    `SmolLM2-135M-Instruct, perplexity over the first ${windows} windows of ${window} tokens of WikiText-2's test.txt.`,
    ...calibration,
    "Where a row has several seeds, the median stands first. Bits per weight count codes, scales, zeros and the LoRA at 16 bits.",
    machinesOf(results),
    "",
    ...markdownTable([HEADER, ...lines.map((line) => cellsOf(line, lines))]),
  ].join("\n");
}
