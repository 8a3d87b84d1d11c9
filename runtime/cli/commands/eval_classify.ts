import { choose, classifyItem, encodeItem } from "../../eval/classify.ts";
import { withResults } from "../../eval/results.ts";
import { readRows } from "../../eval/rows.ts";
import { defineCommand } from "../command.ts";
import { checkLengths, MODEL_FLAGS, openForEval, pause, ROW_FLAGS, tokenizerOf } from "../eval_flags.ts";
import { formatDuration } from "../format.ts";

/** Choices that are scored at the same time. */
const MOST_SEQUENCES = 16;

export const evalClassifyCommand = defineCommand({
  name: "eval classify",
  summary: "accuracy of choosing the likeliest of several texts",
  description: [
    "Rows {text, choices, label}, label an index or the choice itself. The model chooses what it finds likeliest after the text:",
    '"accuracy" by the sum of log-likelihoods, "normalized" by that sum over the number of characters.',
  ].join("\n"),
  flags: {
    ...MODEL_FLAGS,
    ...ROW_FLAGS,
    data: { type: "string", summary: "rows: JSON lines or one array", placeholder: "FILE", required: true },
  },
  examples: ["apiq eval classify --model m --data sentiment.jsonl --json"],
  async run({ flags, out, signal }) {
    const tokenizer = tokenizerOf(flags.model);
    const rows = readRows(flags.data, flags.limit).map((row) => {
      const item = classifyItem(row);
      const encoded = encodeItem(tokenizer, item);
      const tokens = encoded.beginning.length + Math.max(...encoded.branches.map((branch) => branch.length));
      return { item, encoded, where: item.where, tokens };
    });
    checkLengths(flags.model, rows);
    const contextLength = rows.reduce((most, { tokens }) => Math.max(most, tokens), 0);
    const maxSequences = rows.reduce(
      (most, { item }) => Math.max(most, Math.min(item.choices.length, MOST_SEQUENCES)),
      1,
    );
    const { loaded, adapterSlot } = openForEval(flags, { contextLength, maxSequences });
    using _owned = loaded;
    const started = performance.now();
    using bar = out.progress("choosing", rows.length, "rows");
    let plainCorrect = 0;
    let normalizedCorrect = 0;
    await withResults(flags.out, flags.data, async (put) => {
      for (const [index, { item, encoded, where }] of rows.entries()) {
        const { logLikelihoods, plain, normalized } = choose(loaded, item, encoded, adapterSlot);
        plainCorrect += plain === item.label ? 1 : 0;
        normalizedCorrect += normalized === item.label ? 1 : 0;
        put(index, { row: where, label: item.label, plain, normalized, logLikelihoods });
        await pause(signal, bar, index + 1, `accuracy ${((100 * plainCorrect) / (index + 1)).toFixed(1)} %`);
      }
    });
    bar.end();
    const seconds = (performance.now() - started) / 1000;
    const accuracy = plainCorrect / rows.length;
    const normalizedAccuracy = normalizedCorrect / rows.length;
    if (flags.json) {
      out.json({ accuracy, normalizedAccuracy, rows: rows.length, seconds });
      return 0;
    }
    out.line(`accuracy    ${(100 * accuracy).toFixed(2)} % (${plainCorrect} of ${rows.length})`);
    out.line(`normalized  ${(100 * normalizedAccuracy).toFixed(2)} % (likelihood per character)`);
    out.line(`time        ${formatDuration(seconds)}`);
    return 0;
  },
});
