/**
 * One conversation that a chat model makes up: messages of the user come from the model itself, given its template up to where one
 * begins (Magpie, arXiv 2406.08464) and for some the first words too (seeds.ts); answers are its own.
 */
import type { TokenSource } from "../../../runtime/chat/generate.ts";
import { GREEDY } from "../../../runtime/engine/protocol.ts";
import { randomWords } from "../../../runtime/quantize/random.ts";
import type { ChatMessage, Tokenizer } from "../../../runtime/tokenizer/mod.ts";
import { answerProblem, hopelessProblem, userProblem } from "./filters.ts";
import { holdsJudgedPrompt } from "./held_out.ts";
import { isComplete, SEEDS } from "./seeds.ts";

export interface CandidateSettings {
  readonly seed: number;
  /** Which part of the conversations begins with a seed. */
  readonly seeded: number;
  /** Of the user's messages. */
  readonly temperature: number;
  readonly topP: number;
  /** 0: greedy. */
  readonly answerTemperature: number;
  /** Longest message and answer in tokens. */
  readonly maxMessage: number;
  readonly maxAnswer: number;
  /** Tokens of a conversation at most; one that would be longer ends a turn earlier. */
  readonly contextLength: number;
}

/** Which part of the conversations has no more than one turn, and no more than two; the others have three. */
const TURNS = [0.7, 0.9];

export interface Checks {
  /** Both give the reason to leave a conversation out, or null. */
  user(text: string, earlier: readonly string[]): string | null;
  answer(text: string, ended: boolean, earlier: readonly string[]): string | null;
  /** Why a text that goes on cannot be kept whatever follows, or null. */
  hopeless(text: string): string | null;
}

export const CHECKS: Checks = {
  user: (text, earlier) => (holdsJudgedPrompt(text) ? "message is a judged prompt" : userProblem(text, earlier)),
  answer: (text, ended, earlier) =>
    holdsJudgedPrompt(text) ? "answer holds a judged prompt" : answerProblem(text, ended, earlier),
  hopeless: hopelessProblem,
};

export type Candidate =
  | { readonly candidate: number; readonly messages: readonly ChatMessage[] }
  /** With its first message, where that one is not the reason. */
  | { readonly candidate: number; readonly rejected: string; readonly message?: string };

export interface CandidateMaker {
  readonly engine: TokenSource;
  readonly tokenizer: Tokenizer;
  readonly settings: CandidateSettings;
  readonly checks: Checks;
}

/**
 * Makes conversation `number`: a function of the number, the settings and the model alone.
 *
 * @param isKnown whether a first message is that of an earlier conversation; then it is not answered
 * @returns null when `signal` is aborted
 */
export async function makeCandidate(
  maker: CandidateMaker,
  number: number,
  isKnown: (message: string) => boolean,
  signal: AbortSignal,
): Promise<Candidate | null> {
  const next = randomWords(maker.settings.seed, number);
  const share = (): number => (next() >>> 0) / 2 ** 32;
  const opening = share() < maker.settings.seeded ? SEEDS[Math.floor(share() * SEEDS.length)]! : "";
  const turnShare = share();
  const turns = 1 + TURNS.filter((part) => turnShare >= part).length;
  const speaker = new Speaker(maker, number, next, signal);
  const messages: ChatMessage[] = [];
  for (let turn = 0; turn < turns && speaker.hasRoom(messages); turn++) {
    const asked = await speaker.ask(messages, turn === 0 ? opening : "");
    if (asked === null) return null;
    if (asked.problem !== null)
      return turn === 0 ? { candidate: number, rejected: asked.problem } : keep(number, messages);
    const message = asked.text;
    if (turn === 0 && isKnown(message)) return { candidate: number, rejected: KNOWN_MESSAGE, message };
    const answered = await speaker.answer([...messages, { role: "user", content: message }]);
    if (answered === null) return null;
    if (answered.problem !== null) {
      return turn === 0 ? { candidate: number, rejected: answered.problem, message } : keep(number, messages);
    }
    messages.push({ role: "user", content: message }, { role: "assistant", content: answered.text });
  }
  if (messages.length === 0) {
    throw new Error(
      `Cannot make conversations: a turn does not fit into a context of ${maker.settings.contextLength} tokens`,
    );
  }
  return keep(number, messages);
}

/** Why a candidate is left out that begins as an earlier one does. */
export const KNOWN_MESSAGE = "message is known";

function keep(candidate: number, messages: readonly ChatMessage[]): Candidate {
  return { candidate, messages };
}

interface Said {
  readonly text: string;
  /** Why it cannot be used, or null. */
  readonly problem: string | null;
}

/** Tokens between two looks at whether a text is worth being said to the end. */
const LOOK_EVERY = 32;

/** The model in both roles. What it says is null when it was stopped. */
class Speaker {
  readonly #maker: CandidateMaker;
  readonly #number: number;
  readonly #next: () => number;
  readonly #signal: AbortSignal;
  #requests = 0;

  constructor(maker: CandidateMaker, number: number, next: () => number, signal: AbortSignal) {
    this.#maker = maker;
    this.#number = number;
    this.#next = next;
    this.#signal = signal;
  }

  /** Whether one more message and its answer fit into the context. */
  hasRoom(messages: readonly ChatMessage[]): boolean {
    const { tokenizer, settings } = this.#maker;
    const begun = tokenizer.encode(userTurn(tokenizer, messages), { addSpecialTokens: false });
    return begun.length + settings.maxMessage + settings.maxAnswer + TEMPLATE_TOKENS <= settings.contextLength;
  }

  /** The next message of the user. */
  async ask(messages: readonly ChatMessage[], opening: string): Promise<Said | null> {
    const { tokenizer, settings, checks } = this.#maker;
    const earlier = contents(messages, "user");
    if (isComplete(opening)) return { text: opening, problem: checks.user(opening, earlier) };
    const prompt = tokenizer.encode(userTurn(tokenizer, messages) + opening, { addSpecialTokens: false });
    const said = await this.#generate(prompt, settings.maxMessage, settings.temperature);
    if (said === null) return null;
    if ("hopeless" in said) return { text: "", problem: `message ${said.hopeless}` };
    const text = (opening + said.text).trim();
    return { text, problem: said.ended ? checks.user(text, earlier) : "message does not end" };
  }

  async answer(messages: readonly ChatMessage[]): Promise<Said | null> {
    const { tokenizer, settings, checks } = this.#maker;
    const said = await this.#generate(tokenizer.encodeChat(messages), settings.maxAnswer, settings.answerTemperature);
    if (said === null) return null;
    if ("hopeless" in said) return { text: "", problem: `answer ${said.hopeless}` };
    return { text: said.text, problem: checks.answer(said.text, said.ended, contents(messages, "assistant")) };
  }

  /** What the model says behind `prompt`, and whether it ended that itself. */
  async #generate(
    prompt: readonly number[],
    maxTokens: number,
    temperature: number,
  ): Promise<{ readonly text: string; readonly ended: boolean } | { readonly hopeless: string } | null> {
    const { engine, tokenizer, settings, checks } = this.#maker;
    const { stopTokens } = tokenizer;
    const seed = BigInt.asUintN(64, (BigInt(this.#next()) << 32n) ^ BigInt(this.#next()));
    const sampling = { ...GREEDY, temperature, topP: temperature === 0 ? 1 : settings.topP, seed };
    const id = `${this.#number}-${this.#requests++}`;
    const tokens: number[] = [];
    for await (const output of engine.generate({ id, prompt, maxTokens, stopTokens, sampling }, this.#signal)) {
      for (const token of output.tokens) {
        if (stopTokens.includes(token)) return { text: tokenizer.decode(tokens), ended: true };
        tokens.push(token);
        // At fixed places, so that it does not matter in which pieces tokens arrive.
        const hopeless = tokens.length % LOOK_EVERY === 0 ? checks.hopeless(tokenizer.decode(tokens)) : null;
        if (hopeless !== null) return { hopeless };
      }
      if (output.finish !== undefined) return { text: tokenizer.decode(tokens), ended: false };
    }
    return null;
  }
}

function contents(messages: readonly ChatMessage[], role: string): string[] {
  return messages.filter((message) => message.role === role).map(({ content }) => String(content));
}

/** More than a template writes between a message and its answer. */
const TEMPLATE_TOKENS = 32;

/** A message that no template writes and none changes. */
const PLACEHOLDER = "\u2042placeholder\u2042";

/** The conversation up to where the next message of the user begins. */
function userTurn(tokenizer: Tokenizer, messages: readonly ChatMessage[]): string {
  const asked = [...messages, { role: "user", content: PLACEHOLDER }];
  const text = tokenizer.applyChatTemplate(asked, { addGenerationPrompt: false });
  const place = text.indexOf(PLACEHOLDER);
  if (place < 0) throw new Error("Cannot make conversations: the chat template does not show the user's message");
  return text.slice(0, place);
}
