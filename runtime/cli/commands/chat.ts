/** `apiq chat`: a conversation in the terminal, or one answer to what is piped in. */

import { resolve } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { text as readAll } from "node:stream/consumers";
import { Conversation } from "../../chat/conversation.ts";
import { randomSeed, readSamplingDefaults } from "../../chat/sampling.ts";
import { EngineClient } from "../../engine/client.ts";
import { openTokenizer } from "../../tokenizer/mod.ts";
import { defineCommand, type FlagValues, UsageError } from "../command.ts";
import { ENGINE_FLAGS, engineClientOptions } from "../engine_flags.ts";
import type { Output } from "../output.ts";

const FLAGS = {
  model: { type: "string", summary: "folder of the model", placeholder: "DIR", required: true },
  system: { type: "string", summary: "system prompt" },
  use: { type: "string", summary: "name of a loaded adapter that answers", placeholder: "ADAPTER" },
  temperature: { type: "number", summary: "0 takes the likeliest token (default: the model's)", min: 0, max: 2 },
  topP: { type: "number", summary: "draw from this much probability (default: the model's)", min: 0.000001, max: 1 },
  topK: { type: "integer", summary: "draw from this many tokens; 0 is off (default: the model's)", min: 0 },
  minP: { type: "number", summary: "leave out tokens below this share of the likeliest", min: 0, max: 1 },
  seed: { type: "integer", summary: "draw the same answer again (default: random)" },
  maxTokens: { type: "integer", summary: "longest answer in tokens (default: what fits)", min: 1 },
  ...ENGINE_FLAGS,
} as const;

const HELP = "/reset forgets the conversation, /quit ends, Ctrl-C stops an answer";

export const chatCommand = defineCommand({
  name: "chat",
  summary: "talk to a model in the terminal",
  description: `Answers line by line as you type: ${HELP}.\nWith piped input, all of it is one message, and only the answer is printed.`,
  flags: FLAGS,
  examples: [
    "apiq chat --model ./SmolLM2 --system 'Answer briefly.'",
    "echo 'Name a colour.' | apiq chat --model ./SmolLM2",
  ],
  async run({ flags, out, signal }) {
    const conversation = await openConversation(flags, out, signal);
    try {
      if (process.stdin.isTTY) await talk(conversation, out, signal);
      else await answerOnce(conversation, await readAll(process.stdin), out, signal);
      return signal.aborted ? 1 : 0;
    } finally {
      await conversation.close();
    }
  },
});

async function openConversation(
  flags: FlagValues<typeof FLAGS>,
  out: Output,
  signal: AbortSignal,
): Promise<Conversation> {
  const dir = resolve(flags.model);
  const tokenizer = openTokenizer(dir);
  const defaults = readSamplingDefaults(dir);
  using progress = out.progress("loading", 0, "bytes");
  const engine = new EngineClient({
    ...engineClientOptions(dir, flags),
    onState: (state) => {
      if (state.status === "loading") progress.update(state.done, { label: state.stage, total: state.total });
    },
  });
  const close = () => void engine.close();
  signal.addEventListener("abort", close, { once: true });
  try {
    const model = await engine.ready();
    if (flags.use !== undefined && !model.adapters.includes(flags.use)) {
      const loaded = model.adapters.join(", ") || "none";
      throw new UsageError(`Cannot use adapter "${flags.use}": loaded are ${loaded}; load it with --adapter NAME=DIR`);
    }
  } catch (error) {
    await engine.close();
    throw error;
  } finally {
    signal.removeEventListener("abort", close);
  }
  return new Conversation(engine, tokenizer, {
    system: flags.system,
    adapter: flags.use,
    maxTokens: flags.maxTokens,
    sampling: {
      temperature: flags.temperature ?? defaults.temperature,
      topP: flags.topP ?? defaults.topP,
      topK: flags.topK ?? defaults.topK,
      minP: flags.minP ?? defaults.minP,
      repetitionPenalty: defaults.repetitionPenalty,
      presencePenalty: 0,
      frequencyPenalty: 0,
      seed: flags.seed === undefined ? randomSeed() : BigInt.asUintN(64, BigInt(flags.seed)),
      logitBias: [],
    },
  });
}

async function answerOnce(conversation: Conversation, input: string, out: Output, signal: AbortSignal): Promise<void> {
  const message = input.trim();
  if (message === "") throw new UsageError("Cannot answer: standard input is empty");
  for await (const piece of conversation.say(message, signal)) out.write(piece);
  out.line();
}

/** Reads lines until /quit, end of input or Ctrl-C at the prompt. */
async function talk(conversation: Conversation, out: Output, signal: AbortSignal): Promise<void> {
  out.note(out.style("dim", HELP));
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: out.style("green", "> ") });
  let answer: AbortController | undefined;
  lines.on("SIGINT", () => (answer ? answer.abort() : lines.close()));
  signal.addEventListener("abort", () => lines.close(), { once: true });
  try {
    lines.prompt();
    for await (const line of lines) {
      const message = line.trim();
      if (message === "/quit" || message === "/exit") break;
      if (message === "/reset") {
        conversation.reset();
        out.note(out.style("dim", "The conversation starts anew"));
      } else if (message.startsWith("/")) {
        out.note(`Unknown command ${message}: ${HELP}`);
      } else if (message !== "") {
        answer = new AbortController();
        await printAnswer(conversation.say(message, AbortSignal.any([answer.signal, signal])), out);
        answer = undefined;
      }
      lines.prompt();
    }
  } finally {
    lines.close();
  }
}

/** An answer that fails (a conversation that is too long, a restarting engine) does not end the conversation. */
async function printAnswer(pieces: AsyncIterable<string>, out: Output): Promise<void> {
  try {
    for await (const piece of pieces) out.write(piece);
    out.line();
  } catch (error) {
    out.line();
    out.error(error instanceof Error ? error.message : String(error));
  }
}
