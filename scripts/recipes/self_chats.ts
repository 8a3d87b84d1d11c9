/**
 * `bun scripts/recipes/self_chats.ts --model DIR --out chats.jsonl`: lets a chat model make up conversations with itself, which a
 * smaller or packed copy of it can be trained on. FILE gets rows {messages}; beside it
 *
 *   FILE without .jsonl + .train.jsonl       what may be trained on
 *   FILE without .jsonl + .held-out.jsonl    what is held out (self_chats/held_out.ts)
 *   FILE + .log                              every candidate, kept or not: where a run that was stopped goes on, or one with a
 *                                            larger --count
 */
import { existsSync } from "node:fs";
import process from "node:process";
import type { Command, FlagValues } from "../../runtime/cli/command.ts";
import { formatDuration } from "../../runtime/cli/format.ts";
import type { Output } from "../../runtime/cli/output.ts";
import { EngineClient } from "../../runtime/engine/client.ts";
import { writeFileAtomically } from "../../runtime/formats/atomic.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { runCommand } from "./recipe_command.ts";
import { type Candidate, type CandidateSettings, CHECKS } from "./self_chats/candidate.ts";
import { CandidateLog } from "./self_chats/candidate_log.ts";
import { type GenerationProgress, generateChats } from "./self_chats/generate_chats.ts";
import { type Chat, splitChats } from "./self_chats/held_out.ts";

const FLAGS = {
  model: { type: "string", summary: "the chat model, a Hugging Face folder", placeholder: "DIR", required: true },
  out: { type: "string", summary: "where the conversations go", placeholder: "FILE", required: true },
  count: { type: "integer", summary: "conversations that are wanted", default: 2000, min: 1 },
  heldOut: { type: "integer", summary: "conversations that are held out at most", default: 200, min: 0 },
  seed: { type: "integer", summary: "of everything that is drawn", default: 0, min: 0 },
  seeded: { type: "number", summary: "which part begins with a topic of ours", default: 0.7, min: 0, max: 1 },
  temperature: { type: "number", summary: "of the user's messages", default: 0.8, min: 0, max: 2 },
  topP: { type: "number", summary: "nucleus that is drawn from", default: 0.95, min: 0.01, max: 1 },
  answerTemperature: {
    type: "number",
    summary: "of the answers; 0 takes the likeliest token",
    default: 0.3,
    min: 0,
    max: 2,
  },
  maxMessage: { type: "integer", summary: "longest message of the user in tokens", default: 64, min: 1 },
  maxAnswer: { type: "integer", summary: "longest answer in tokens", default: 320, min: 1 },
  context: { type: "integer", summary: "longest conversation in tokens", default: 1024, min: 64 },
  sequences: { type: "integer", summary: "conversations made at the same time", default: 32, min: 1, max: 1024 },
  most: { type: "integer", summary: "candidates for each that is wanted, at most", default: 20, min: 1 },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
} as const;

const COMMAND: Command<typeof FLAGS> = {
  name: "self_chats.ts",
  summary: "conversations that a chat model makes up",
  description:
    "Lets a chat model make up conversations with itself: it is given its template up to where the user speaks, and answers\n" +
    "what it then says. Every conversation is a function of its number, the seed and the model; a run that was stopped goes on.",
  flags: FLAGS,
  examples: ["bun scripts/recipes/self_chats.ts --model smol-fp16 --out chats.jsonl --count 5000 --seed 0"],
  run: ({ flags, out, signal }) => makeChats(flags, out, signal),
};

/** Kept conversations between two lines about how far it is. */
const NOTE_EVERY = 100;

async function makeChats(flags: FlagValues<typeof FLAGS>, out: Output, signal: AbortSignal): Promise<number> {
  const settings: CandidateSettings = {
    seed: flags.seed,
    seeded: flags.seeded,
    temperature: flags.temperature,
    topP: flags.topP,
    answerTemperature: flags.answerTemperature,
    maxMessage: flags.maxMessage,
    maxAnswer: flags.maxAnswer,
    contextLength: flags.context,
  };
  const path = `${flags.out}.log`;
  if (existsSync(flags.out) && !existsSync(path)) {
    throw new Error(`Cannot write ${flags.out}: it exists, and there is no ${path} that it was made from`);
  }
  const tokenizer = openTokenizer(flags.model);
  const engine = new EngineClient({
    engine: {
      model: flags.model,
      device: "auto",
      threads: flags.threads,
      contextLength: flags.context,
      maxSequences: flags.sequences,
      kvMemory: undefined,
      activations: "auto",
      adapters: {},
    },
  });
  try {
    const { fingerprint } = await engine.ready();
    using log = CandidateLog.open(path, { ...settings, model: fingerprint });
    if (log.candidates.length > 0) out.note(`Continuing behind ${log.candidates.length} candidates of ${path}.`);
    const clock = new Clock(flags.count);
    using bar = out.progress("making conversations", flags.count, "conversations");
    const result = await generateChats({
      maker: { engine, tokenizer, settings, checks: CHECKS },
      count: flags.count,
      most: flags.most * flags.count,
      concurrency: flags.sequences,
      earlier: [...log.candidates],
      signal,
      take: (candidate, progress) => {
        log.add(candidate);
        const line = clock.tick(candidate, progress);
        bar.update(progress.kept);
        if (line !== null) {
          bar.clear();
          out.note(line);
        }
      },
    });
    bar.end();
    return await finish(flags, out, log.candidates, result, signal);
  } finally {
    await engine.close();
  }
}

async function finish(
  { out: file, count, heldOut }: FlagValues<typeof FLAGS>,
  out: Output,
  candidates: readonly Candidate[],
  { kept, tried, rejected }: GenerationProgress,
  signal: AbortSignal,
): Promise<number> {
  const reasons = [...rejected].sort(([, a], [, b]) => b - a).map(([reason, times]) => `  ${times}  ${reason}`);
  out.note([`${kept} of ${tried} candidates are kept; left out were`, ...reasons].join("\n"));
  if (signal.aborted) {
    out.note("Stopped; the same command goes on.");
    return 1;
  }
  if (kept < count) throw new Error(`Cannot make ${count} conversations: ${kept} of ${tried} candidates can be used`);
  const chats = candidates.flatMap((c) => ("messages" in c ? [{ messages: c.messages }] : [])).slice(0, count);
  const split = splitChats(chats, heldOut);
  if (split.heldOut.length < heldOut) {
    out.note(
      `--held-out asks for ${heldOut}, and ${split.heldOut.length} of ${count} conversations are in the part that is held out.`,
    );
  }
  const stem = file.replace(/\.jsonl$/, "");
  await writeChats(file, chats);
  await writeChats(`${stem}.train.jsonl`, split.training);
  await writeChats(`${stem}.held-out.jsonl`, split.heldOut);
  out.line(
    `${file}: ${chats.length} conversations, ${split.training.length} to train on, ${split.heldOut.length} held out`,
  );
  return 0;
}

function writeChats(file: string, chats: readonly Chat[]): Promise<void> {
  const text = chats.map((chat) => `${JSON.stringify(chat)}\n`).join("");
  return writeFileAtomically(file, (write) => write(new TextEncoder().encode(text)));
}

/** How fast this run is. */
class Clock {
  readonly #count: number;
  readonly #began = performance.now();
  #made = 0;

  constructor(count: number) {
    this.#count = count;
  }

  /** A line about how far it is, after every NOTE_EVERY conversations. */
  tick(candidate: Candidate, { kept, tried }: GenerationProgress): string | null {
    if ("rejected" in candidate || ++this.#made % NOTE_EVERY !== 0) return null;
    const minutes = (performance.now() - this.#began) / 60_000;
    const left = ((this.#count - kept) * minutes * 60) / this.#made;
    const rate = (this.#made / minutes).toFixed(1);
    return `${kept} of ${this.#count} conversations, ${tried} candidates, ${rate} a minute, ${formatDuration(left)} left`;
  }
}

process.exit(await runCommand("scripts/recipes/self_chats.ts", COMMAND));
