/** What the embedded model is judged by, measured beside the full-precision model. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { openForEval } from "../../../runtime/cli/eval_flags.ts";
import { Engine } from "../../../runtime/engine/engine.ts";
import { type Divergence, divergence } from "../../../runtime/eval/divergence.ts";
import { generateAll } from "../../../runtime/eval/generate.ts";
import { perplexity } from "../../../runtime/eval/perplexity.ts";
import { readText } from "../../../runtime/eval/text_file.ts";
import { tokenWindows } from "../../../runtime/eval/windows.ts";
import { type ChatMessage, openTokenizer } from "../../../runtime/tokenizer/mod.ts";
import { isRepetitive } from "../self_chats/filters.ts";
import { type Chat, JUDGED_PROMPTS } from "../self_chats/held_out.ts";

export interface Budget {
  /** Held-out chats. */
  readonly chats: number;
  /** Tokens of an answer at most, and of a chat that predictions are compared on. */
  readonly answerTokens: number;
  readonly chatTokens: number;
  /** Of the text that the perplexity is of. */
  readonly windows: number;
  readonly windowTokens: number;
}

export const FULL_BUDGET: Budget = { chats: 200, answerTokens: 192, chatTokens: 1024, windows: 40, windowTokens: 1024 };

export interface MeasureOptions {
  readonly reference: string;
  readonly heldOut: readonly Chat[];
  /** A text file. */
  readonly text: string;
  readonly threads: number;
  readonly budget: Budget;
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
}

export interface Answer {
  readonly prompt: string;
  readonly answer: string;
}

/** Of one model by itself. */
export interface ModelMeasures {
  readonly bytes: number;
  readonly perplexity: number;
  /** Of the answers to the held-out chats: the share that says the same again and again, and the share that did not end. */
  readonly repeating: number;
  readonly unended: number;
  /** Greedy, to the judged prompts. */
  readonly judged: readonly Answer[];
  /** To some of the held-out chats, to look at. */
  readonly shown: readonly Answer[];
}

/** Beside the reference, over every position of the held-out chats. */
export type Compared = Pick<Divergence, "kl" | "agreement" | "tokens">;

const SHOWN = 10;

/** The held-out chats of a budget. @throws where there are fewer */
export function enoughChats(heldOut: readonly Chat[], { chats }: Budget): readonly Chat[] {
  if (heldOut.length >= chats) return heldOut.slice(0, chats);
  throw new Error(
    `Cannot judge a model by ${chats} held-out chats: there are ${heldOut.length}; make more chats, or judge by fewer`,
  );
}

/** Of all files in a folder. */
export function folderBytes(dir: string): number {
  const names = readdirSync(dir, { recursive: true }) as string[];
  return names
    .map((name) => statSync(join(dir, name)))
    .reduce((sum, stat) => (stat.isFile() ? sum + stat.size : sum), 0);
}

export async function measureModel(model: string, options: MeasureOptions): Promise<ModelMeasures> {
  const { heldOut, budget, note } = options;
  const ppl = await perplexityOf(model, options);
  note(`${model}: perplexity ${ppl.toFixed(2)}`);
  const chats = enoughChats(heldOut, budget).map(questionOf);
  const asked = [...JUDGED_PROMPTS.map((content): ChatMessage[] => [{ role: "user", content }]), ...chats];
  const answers = await answersOf(model, asked, options);
  const toChats = answers.slice(JUDGED_PROMPTS.length);
  const share = (is: (answer: (typeof answers)[number]) => boolean): number =>
    toChats.filter(is).length / toChats.length;
  const judged = answers.slice(0, JUDGED_PROMPTS.length).map(shownAs);
  const repeating = share(({ answer }) => isRepetitive(answer));
  note(`${model}: ${(100 * repeating).toFixed(1)} % of the answers repeat themselves; ${JSON.stringify(judged[0])}`);
  const unended = share(({ ended }) => !ended);
  const shown = toChats.slice(0, SHOWN).map(shownAs);
  return { bytes: folderBytes(model), perplexity: ppl, repeating, unended, judged, shown };
}

function shownAs({ prompt, answer }: Answer): Answer {
  return { prompt, answer };
}

async function perplexityOf(model: string, { text, threads, budget, signal }: MeasureOptions): Promise<number> {
  const { windows, windowTokens } = budget;
  const found = tokenWindows(openTokenizer(model).encode(readText(text)), windowTokens, windows);
  const { loaded } = open(model, threads, windowTokens);
  using _owned = loaded;
  return (await perplexity(loaded, found, -1, () => signal.throwIfAborted())).ppl;
}

/** What is asked last in a chat, with all before it. */
function questionOf({ messages }: Chat): ChatMessage[] {
  const last = messages.findLastIndex(({ role }) => role === "user");
  return messages.slice(0, last + 1);
}

/** Greedy answers, in the order of the questions. */
async function answersOf(
  model: string,
  questions: readonly (readonly ChatMessage[])[],
  { threads, budget, signal }: MeasureOptions,
): Promise<readonly (Answer & { readonly ended: boolean })[]> {
  const tokenizer = openTokenizer(model);
  const { chatTokens, answerTokens: maxTokens } = budget;
  const prompts = questions.map((messages) => tokenizer.encodeChat(messages).slice(-chatTokens));
  const { loaded } = open(model, threads, chatTokens + maxTokens, 16);
  using engine = new Engine(loaded, false);
  const answers: (Answer & { readonly ended: boolean })[] = [];
  for (const done of generateAll(engine, tokenizer, prompts, { maxTokens, stop: [], adapter: undefined })) {
    for (const { index, text, finish } of done) {
      const prompt = String(questions[index]!.at(-1)!.content);
      answers[index] = { prompt, answer: text, ended: finish === "stop" };
    }
    signal.throwIfAborted();
  }
  return answers;
}

/** Predictions on the held-out chats, rendered whole. */
export async function compare(
  model: string,
  { reference, heldOut, threads, budget, signal }: MeasureOptions,
): Promise<Compared> {
  const tokenizer = openTokenizer(reference);
  const windows = enoughChats(heldOut, budget).map(({ messages }) =>
    tokenizer.encodeChat(messages, { addGenerationPrompt: false }).slice(0, budget.chatTokens),
  );
  const one = open(reference, threads, budget.chatTokens);
  using _one = one.loaded;
  const other = open(model, threads, budget.chatTokens);
  using _other = other.loaded;
  const { kl, agreement, tokens } = await divergence(one, other, windows, () => signal.throwIfAborted());
  return { kl, agreement, tokens };
}

function open(model: string, threads: number, contextLength: number, maxSequences = 1) {
  return openForEval(
    { model, adapter: undefined, activations: "auto", threads },
    { contextLength, maxSequences, kvMemory: undefined },
  );
}
