import { withResults } from "../../eval/results.ts";
import { readRows } from "../../eval/rows.ts";
import { TASKS, type TaskName } from "../../eval/tasks.ts";
import { defineCommand } from "../command.ts";
import { answerAll, GENERATION_FLAGS } from "../eval_generation.ts";
import { formatDuration } from "../format.ts";

export const evalTasksCommand = defineCommand({
  name: "eval tasks",
  summary: "accuracy of greedy answers: gsm8k, arithmetic, commonsense",
  description: [
    "What counts as the model's answer:",
    "  gsm8k        rows {question, answer}; the number after ####; how often the last number is right is counted beside",
    "  arithmetic   LLM-Adapters' rows {instruction, input, output, answer}; the last number, where the answer is a letter the",
    "               first of A to E",
    "  commonsense  the same rows; the first word of the answer's kind (true or false, answer1 to answer5, ...)",
  ].join("\n"),
  flags: {
    ...GENERATION_FLAGS,
    task: { type: "string", summary: "the task", choices: Object.keys(TASKS), required: true },
    data: { type: "string", summary: "its rows: JSON lines or one array", placeholder: "FILE", required: true },
    maxTokens: { type: "integer", summary: "longest answer (default 256, commonsense 32)", min: 1 },
  },
  examples: [
    "apiq eval tasks --model m --task gsm8k --data gsm8k/test.jsonl --chat --limit 100",
    "apiq eval tasks --model m --adapter a --task commonsense --data commonsense/boolq.test.json --out boolq.jsonl --json",
  ],
  async run({ flags, out, signal }) {
    const name = flags.task as TaskName;
    const task = TASKS[name];
    const items = readRows(flags.data, flags.limit).map(task.item);
    let done = 0;
    let correct = 0;
    let lastNumberCorrect = 0;
    let unanswered = 0;
    const limits = { maxTokens: flags.maxTokens ?? task.maxTokens, stop: task.stop };
    const { seconds, tokens } = await withResults(flags.out, flags.data, (put) =>
      answerAll({ flags, out, signal }, items, limits, ({ index, text, ...generation }) => {
        const { where, label, judge } = items[index];
        const judgement = judge(text);
        done++;
        correct += judgement.correct ? 1 : 0;
        lastNumberCorrect += judgement.lastNumberCorrect ? 1 : 0;
        unanswered += judgement.prediction === null ? 1 : 0;
        put(index, { row: where, response: text, label, ...judgement, ...generation });
        return `accuracy ${((100 * correct) / done).toFixed(1)} %`;
      }),
    );
    const accuracy = correct / items.length;
    const lastNumber = name === "gsm8k" && { lastNumberAccuracy: lastNumberCorrect / items.length };
    if (flags.json) {
      out.json({ task: name, accuracy, ...lastNumber, correct, rows: items.length, unanswered, tokens, seconds });
      return 0;
    }
    out.line(
      `accuracy    ${(100 * accuracy).toFixed(2)} % (${correct} of ${items.length}, ${unanswered} without an answer)`,
    );
    if (lastNumber) out.line(`            ${(100 * lastNumber.lastNumberAccuracy).toFixed(2)} % by the last number`);
    out.line(`time        ${formatDuration(seconds)}, ${tokens} tokens`);
    return 0;
  },
});
