/** Many conversations at the same time, taken over in the order of their numbers: what comes out depends on nothing else. */
import type { ChatMessage } from "../../../runtime/tokenizer/mod.ts";
import { type Candidate, type CandidateMaker, KNOWN_MESSAGE, makeCandidate } from "./candidate.ts";
import { normalized } from "./filters.ts";

/** An answer of so many words may not be given twice. */
const KNOWN_ANSWER_WORDS = 6;

export interface GenerationOptions {
  readonly maker: CandidateMaker;
  /** How many conversations are wanted. */
  readonly count: number;
  /** How many candidates are tried for them at most. */
  readonly most: number;
  /** Candidates that are made at the same time. */
  readonly concurrency: number;
  /** Candidates of an earlier run, from the first on. */
  readonly earlier: readonly Candidate[];
  /** Gets every further candidate in order. */
  readonly take: (candidate: Candidate, progress: GenerationProgress) => void;
  readonly signal: AbortSignal;
}

export interface GenerationProgress {
  readonly kept: number;
  readonly tried: number;
  /** How often candidates were left out, by reason. */
  readonly rejected: ReadonlyMap<string, number>;
}

/** Makes candidates until enough are kept, `most` were tried or `signal` is aborted. */
export async function generateChats(options: GenerationOptions): Promise<GenerationProgress> {
  const { maker, count, most, concurrency, earlier, take, signal } = options;
  const kept = new KeptChats();
  const rejected = new Map<string, number>();
  const progress = () => ({ kept: kept.count, tried, rejected });
  let tried = 0;
  const note = (candidate: Candidate): void => {
    tried++;
    if ("rejected" in candidate) rejected.set(candidate.rejected, (rejected.get(candidate.rejected) ?? 0) + 1);
    else kept.add(candidate.messages);
  };
  for (const candidate of earlier) if (kept.count < count) note(candidate);

  const stopping = new AbortController();
  const stop = AbortSignal.any([signal, stopping.signal]);
  const waiting = new Map<number, Candidate>();
  let next = tried;
  const isDone = (): boolean => stop.aborted || kept.count >= count || tried >= most;
  const takeWaiting = (): void => {
    for (let made = waiting.get(tried); made !== undefined && !isDone(); made = waiting.get(tried)) {
      waiting.delete(tried);
      const candidate = kept.judge(made);
      note(candidate);
      take(candidate, progress());
    }
    if (isDone()) stopping.abort();
  };
  const work = async (): Promise<void> => {
    while (!isDone() && next < most) {
      const number = next++;
      const made = await makeCandidate(maker, number, (message) => kept.isKnown(message), stop);
      if (made === null) return;
      waiting.set(number, made);
      takeWaiting();
    }
  };
  try {
    await Promise.all(Array.from({ length: concurrency }, work));
  } finally {
    stopping.abort();
  }
  return progress();
}

/** First messages and answers of the conversations that are kept. */
class KeptChats {
  readonly #messages = new Set<string>();
  readonly #answers = new Set<string>();
  count = 0;

  isKnown(message: string): boolean {
    return this.#messages.has(normalized(message));
  }

  /** The candidate, or why it is left out: something in it was kept before. */
  judge(made: Candidate): Candidate {
    const { candidate } = made;
    const message = "messages" in made ? String(made.messages[0]!.content) : made.message;
    if (message !== undefined && this.isKnown(message)) return { candidate, rejected: KNOWN_MESSAGE, message };
    const isNew =
      !("messages" in made) || !this.#longAnswers(made.messages).some((answer) => this.#answers.has(answer));
    return isNew ? made : { candidate, rejected: "answer is known", ...(message !== undefined && { message }) };
  }

  add(messages: readonly ChatMessage[]): void {
    this.count++;
    this.#messages.add(normalized(String(messages[0]!.content)));
    for (const answer of this.#longAnswers(messages)) this.#answers.add(answer);
  }

  #longAnswers(messages: readonly ChatMessage[]): string[] {
    const answers = messages
      .filter(({ role }) => role === "assistant")
      .map(({ content }) => normalized(String(content)));
    return answers.filter((answer) => answer.split(" ").length >= KNOWN_ANSWER_WORDS);
  }
}
