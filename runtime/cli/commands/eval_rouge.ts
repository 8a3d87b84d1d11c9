import { withResults } from "../../eval/results.ts";
import { type RougeScores, rouge } from "../../eval/rouge.ts";
import { readRows, textField } from "../../eval/rows.ts";
import { defineCommand, UsageError } from "../command.ts";
import { answerAll, GENERATION_FLAGS } from "../eval_generation.ts";
import { formatDuration } from "../format.ts";

export const evalRougeCommand = defineCommand({
  name: "eval rouge",
  summary: "ROUGE of greedy answers against references",
  description: [
    "Rows {prompt, reference}. ROUGE-1, ROUGE-2 and ROUGE-L as F1, the mean over rows, without stemming; words are runs of a to z",
    "and 0 to 9.",
  ].join("\n"),
  flags: {
    ...GENERATION_FLAGS,
    data: { type: "string", summary: "rows: JSON lines or one array", placeholder: "FILE", required: true },
    maxTokens: { type: "integer", summary: "longest answer", default: 128, min: 1 },
    stop: { type: "string", summary: "text that ends an answer", multiple: true },
  },
  examples: ["apiq eval rouge --model m --data summaries.jsonl --max-tokens 64 --chat --json"],
  async run({ flags, out, signal }) {
    const items = readRows(flags.data, flags.limit).map((row) => {
      const prompt = textField(row, "prompt");
      const messages = [{ role: "user", content: prompt }];
      return { where: row.where, prompt, messages, reference: textField(row, "reference") };
    });
    if (flags.stop.includes("")) throw new UsageError("Cannot use --stop: received an empty text");
    const scores: RougeScores[] = [];
    const { seconds, tokens } = await withResults(flags.out, flags.data, (put) =>
      answerAll({ flags, out, signal }, items, flags, ({ index, text, ...generation }) => {
        const { where, reference } = items[index];
        scores[index] = rouge(reference, text);
        put(index, { row: where, response: text, reference, ...scores[index], ...generation });
        return "answering";
      }),
    );
    const mean = (name: keyof RougeScores) => scores.reduce((sum, score) => sum + score[name], 0) / scores.length;
    const means = { rouge1: mean("rouge1"), rouge2: mean("rouge2"), rougeL: mean("rougeL") };
    if (flags.json) {
      out.json({ ...means, rows: items.length, tokens, seconds });
      return 0;
    }
    out.line(`ROUGE-1  ${(100 * means.rouge1).toFixed(2)}`);
    out.line(`ROUGE-2  ${(100 * means.rouge2).toFixed(2)}`);
    out.line(`ROUGE-L  ${(100 * means.rougeL).toFixed(2)}`);
    out.line(`rows     ${items.length}, ${tokens} tokens in ${formatDuration(seconds)}`);
    return 0;
  },
});
