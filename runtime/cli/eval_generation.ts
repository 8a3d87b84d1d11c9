/** What `eval tasks` and `eval rouge` share: the model of the flags answers all rows. */
import { Engine } from "../engine/engine.ts";
import { type Generation, generateAll } from "../eval/generate.ts";
import type { ChatMessage } from "../tokenizer/mod.ts";
import type { CommandContext } from "./command.ts";
import { ADAPTER, checkLengths, MODEL_FLAGS, openForEval, pause, ROW_FLAGS, tokenizerOf } from "./eval_flags.ts";

export const GENERATION_FLAGS = {
  ...MODEL_FLAGS,
  ...ROW_FLAGS,
  chat: { type: "boolean", summary: "ask in the model's chat template" },
  sequences: { type: "integer", summary: "answers generated at the same time", default: 16, min: 1, max: 1024 },
} as const;

export interface Question {
  readonly where: string;
  readonly prompt: string;
  /** Asked instead of `prompt` with --chat. */
  readonly messages: readonly ChatMessage[];
}

export interface Answered {
  seconds: number;
  /** Generated tokens. */
  tokens: number;
}

/**
 * Greedy answers, in the order in which they are done.
 * @param take gets each answer, and gives what the progress bar shows beside it
 */
export async function answerAll(
  { flags, out, signal }: Pick<CommandContext<typeof GENERATION_FLAGS>, "flags" | "out" | "signal">,
  questions: readonly Question[],
  { maxTokens, stop }: { maxTokens: number; stop: readonly string[] },
  take: (answer: Generation) => string,
): Promise<Answered> {
  const tokenizer = tokenizerOf(flags.model);
  const prompts = questions.map(({ prompt, messages }) =>
    flags.chat ? tokenizer.encodeChat(messages) : tokenizer.encode(prompt),
  );
  const lengths = prompts.map((prompt, i) => ({ where: questions[i].where, tokens: prompt.length + maxTokens }));
  checkLengths(flags.model, lengths);
  const contextLength = lengths.reduce((most, { tokens }) => Math.max(most, tokens), 0);
  const maxSequences = Math.min(flags.sequences, questions.length);
  const { loaded } = openForEval(flags, { contextLength, maxSequences, kvMemory: undefined });
  using engine = new Engine(loaded, false);
  const started = performance.now();
  using bar = out.progress("answering", questions.length, "rows");
  let done = 0;
  let label = "answering";
  const adapter = flags.adapter === undefined ? undefined : ADAPTER;
  for (const answers of generateAll(engine, tokenizer, prompts, { maxTokens, stop, adapter })) {
    for (const answer of answers) label = take(answer);
    done += answers.length;
    await pause(signal, bar, done, label);
  }
  bar.end();
  return { seconds: (performance.now() - started) / 1000, tokens: engine.stats().generatedTokens };
}
