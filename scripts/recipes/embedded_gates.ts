/**
 * `bun scripts/recipes/embedded_gates.ts --model DIR --reference DIR --held-out FILE --text FILE --out FILE`: measures packed models
 * beside the full-precision one, and says whether the last of them is good enough to be embedded (embedded/gates.ts). Exits with 1
 * where it is not.
 */
import process from "node:process";
import type { Command } from "../../runtime/cli/command.ts";
import { writeJson } from "../../runtime/formats/atomic.ts";
import { GATES, runGates } from "./embedded/gates.ts";
import { FULL_BUDGET } from "./embedded/measure.ts";
import { readChats } from "./embedded/training_data.ts";
import { runCommand } from "./recipe_command.ts";

const FLAGS = {
  model: {
    type: "string",
    summary: "a packed model; the last one is judged",
    placeholder: "DIR",
    required: true,
    multiple: true,
  },
  reference: { type: "string", summary: "the full-precision model", placeholder: "DIR", required: true },
  heldOut: { type: "string", summary: "chats that were not trained on", placeholder: "FILE", required: true },
  text: { type: "string", summary: "text for the perplexity", placeholder: "FILE", required: true },
  out: { type: "string", summary: "where the measurements go", placeholder: "FILE", required: true },
  chats: { type: "integer", summary: "of the held-out chats", default: FULL_BUDGET.chats, min: 1 },
  windows: { type: "integer", summary: "windows of the text", default: FULL_BUDGET.windows, min: 1 },
  windowTokens: { type: "integer", summary: "tokens of a window", default: FULL_BUDGET.windowTokens, min: 2 },
  chatTokens: { type: "integer", summary: "tokens of a chat at most", default: FULL_BUDGET.chatTokens, min: 2 },
  answerTokens: { type: "integer", summary: "tokens of an answer at most", default: FULL_BUDGET.answerTokens, min: 1 },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
} as const;

const COMMAND: Command<typeof FLAGS> = {
  name: "embedded_gates.ts",
  summary: "what the embedded model is judged by",
  description: [
    "Size of the folder, perplexity, divergence from the full-precision model on held-out chats, how many answers repeat themselves,",
    "and the answers to the judged prompts.",
  ].join("\n"),
  flags: FLAGS,
  async run({ flags, out, signal }) {
    const { model, reference, heldOut, text, threads, ...budget } = flags;
    const chats = readChats(heldOut);
    const note = (line: string): void => out.note(line);
    const report = await runGates(model, { reference, heldOut: chats, text, threads, budget, signal, note });
    await writeJson(flags.out, report);
    for (const [gate, passed] of Object.entries(report.passed)) {
      out.line(`${passed ? "passed" : "FAILED"}  ${gate} ${GATES[gate as keyof typeof GATES]}`);
    }
    return Object.values(report.passed).every(Boolean) ? 0 : 1;
  },
};

process.exit(await runCommand("scripts/recipes/embedded_gates.ts", COMMAND));
