/** From the rounds of a benchmark to medians, ratios and a table. */

/** @param {readonly number[]} values at least one */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * One engine at one thread count over all rounds.
 *
 * @typedef {object} Summary
 * @property {string} engine "apiq" or "llama.cpp"
 * @property {string} format of the linears
 * @property {number} bytesPerStep what a decode step reads
 * @property {{ tokensPerSecond: number, bestTokensPerSecond: number, fractionOfBandwidth: number }} decode
 * @property {{ tokensPerSecond: number, bestTokensPerSecond: number }} prefill
 */

/**
 * Rates become the median over the rounds, and the best of all: of single steps in decode, of rounds in prefill.
 *
 * @param {{ engine: string, format: string, bytesPerStep: number }} subject
 * @param {readonly object[]} results of the rounds, as the programs print them
 * @param {number} bandwidth bytes per second
 * @returns {Summary}
 */
export function summarize(subject, results, bandwidth) {
  const medianRate = (phase) => median(results.map((result) => result[phase].tokensPerSecond));
  const decodeRate = medianRate("decode");
  return {
    ...subject,
    decode: {
      tokensPerSecond: decodeRate,
      bestTokensPerSecond: 1e3 / Math.min(...results.map(({ decode }) => decode.bestMs)),
      fractionOfBandwidth: (decodeRate * subject.bytesPerStep) / bandwidth,
    },
    prefill: {
      tokensPerSecond: medianRate("prefill"),
      bestTokensPerSecond: Math.max(...results.map(({ prefill }) => prefill.tokensPerSecond)),
    },
  };
}

/**
 * How many times as fast apiq is: decode against TQ2_0 (or the first format, where that was not run), prefill against
 * the format that is fastest there. `ratio` is that of the medians, `bestRatio` that of the best runs, which suffers
 * less from a busy machine.
 *
 * @param {Summary} apiq
 * @param {readonly Summary[]} llamas at least one
 */
export function compare(apiq, llamas) {
  const prefillRival = llamas.reduce((best, llama) =>
    llama.prefill.tokensPerSecond > best.prefill.tokensPerSecond ? llama : best,
  );
  const against = (rival, phase) => ({
    rival: rival.format,
    ratio: apiq[phase].tokensPerSecond / rival[phase].tokensPerSecond,
    bestRatio: apiq[phase].bestTokensPerSecond / rival[phase].bestTokensPerSecond,
  });
  return {
    decode: against(llamas.find(({ format }) => format === "TQ2_0") ?? llamas[0], "decode"),
    prefill: against(prefillRival, "prefill"),
  };
}

/** A load average before the run above which other programs take a share that shows. */
const LOAD_OF_OTHERS = 0.3;

const rate = (phase) => `${phase.tokensPerSecond.toFixed(1)} (${phase.bestTokensPerSecond.toFixed(1)})`;
const gigabytes = (bytes) => (bytes / 1e9).toFixed(1);

/** Lines of equal columns, the first one flush left, the others right. */
function alignColumns(table) {
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  return table.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join("   "),
  );
}

const renderRatio = (phase, { rival, ratio, bestRatio }) =>
  `  ${phase}: apiq is ${ratio.toFixed(2)} (${bestRatio.toFixed(2)}) times as fast as llama.cpp ${rival}`;

function renderThreads({ threads, bandwidth, summaries, apiqUnavailable, comparison }, promptTokens) {
  const rows = summaries.map(({ engine, format, bytesPerStep, decode, prefill }) => [
    `  ${engine} ${format}`,
    rate(decode),
    rate(prefill),
    (bytesPerStep / 1e6).toFixed(0),
    `${(100 * decode.fractionOfBandwidth).toFixed(0)} %`,
  ]);
  const header = ["", "decode tok/s", `prefill ${promptTokens} tok/s`, "MB a step", "of bandwidth"];
  return [
    "",
    `${threads} thread${threads === 1 ? "" : "s"}, read bandwidth ${gigabytes(bandwidth.bytesPerSecond)} (${gigabytes(bandwidth.bestBytesPerSecond)}) GB/s`,
    ...(rows.length > 0 ? alignColumns([header, ...rows]) : []),
    ...(apiqUnavailable ? [`  apiq: not available: ${apiqUnavailable}`] : []),
    ...(comparison ? [renderRatio("decode", comparison.decode), renderRatio("prefill", comparison.prefill)] : []),
  ];
}

/**
 * The whole report as text.
 *
 * @param {object} report as run.mjs writes it to JSON
 */
export function render({ machine, shape, rounds, promptTokens, decodeSteps, sides, measurements, commands }) {
  const { apiq, llama } = sides;
  return [
    `${machine.cpu}, ${machine.cores} cores: ${machine.features?.join(" ") ?? "features unknown"}`,
    ...(llama
      ? [`llama.cpp ${llama.release} (${llama.package}): ${llama.cpuBackend}, ${llama.features.join(" ")}`]
      : []),
    ...(apiq ? [`apiq: ${apiq.isa}`] : []),
    `${shape}, random weights, 8-bit head, batch 1, ${decodeSteps} decode steps after the prompt; ${rounds} rounds, median (best)`,
    ...(machine.loadAverage > LOAD_OF_OTHERS
      ? [`The load average was ${machine.loadAverage.toFixed(1)} before: medians may be low`]
      : []),
    ...measurements.flatMap((measurement) => renderThreads(measurement, promptTokens)),
    "",
    ...commands.map((command) => `$ ${command}`),
  ].join("\n");
}

/**
 * The report as a Markdown section for the README.
 *
 * @param {object} report as run.mjs writes it to JSON
 * @param {string} command what was typed to get it
 */
export function renderMarkdown({ machine, shape, rounds, promptTokens, decodeSteps, sides, measurements }, command) {
  const rows = measurements.flatMap(({ threads, bandwidth, summaries }) =>
    summaries.map(({ engine, format, bytesPerStep, decode, prefill }) => [
      threads,
      `${engine} ${format}`,
      rate(decode),
      `${(bytesPerStep / 1e6).toFixed(0)} MB, ${(100 * decode.fractionOfBandwidth).toFixed(0)} % of ${gigabytes(bandwidth.bytesPerSecond)} GB/s`,
      rate(prefill),
    ]),
  );
  const ratios = measurements.flatMap(({ threads, comparison }) =>
    comparison
      ? [
          `${threads} thread${threads === 1 ? "" : "s"}: decode ${comparison.decode.ratio.toFixed(2)} times llama.cpp's ${comparison.decode.rival}, prefill ${comparison.prefill.ratio.toFixed(2)} times its ${comparison.prefill.rival}.`,
        ]
      : [],
  );
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    `\`${command}\`: ${shape}, random weights, 8-bit head, batch 1, ${decodeSteps} tokens after a prompt of ${promptTokens}; tokens/s as median (best) over ${rounds} rounds in which the programs alternate.`,
    `Machine: ${machine.cpu}, ${machine.cores} cores, apiq on ${sides.apiq?.isa ?? "nothing"}${sides.llama ? `, llama.cpp ${sides.llama.release} driven through its C API (${sides.llama.cpuBackend})` : ""}; load average before the run ${machine.loadAverage.toFixed(1)}.`,
    "",
    line(["threads", "", "decode", "a step reads", "prefill"]),
    line(["---", "---", "---", "---", "---"]),
    ...rows.map(line),
    "",
    ...ratios,
  ].join("\n");
}
