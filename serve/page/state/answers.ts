/** Answers in the making, at most one per conversation. They go on while another conversation is on the page. */
import { signal } from "@preact/signals";
import { streamChat, type Usage } from "../api/chat.ts";
import { RequestError } from "../api/request.ts";
import type { Trouble } from "../api/trouble.ts";
import { announce, announceAnswer } from "./announcer.ts";
import { type AnswerStats, type AssistantMessage, type Conversation, requestMessages } from "./conversation.ts";
import { change, find } from "./conversations.ts";
import { newId } from "./id.ts";
import { baseModel, checkServer, refreshModels } from "./server.ts";

/** Text is shown this often: faster than the eye tells apart, and no work per token. */
const SHOW_MS = 40;

/** What arrives within less came in one piece, and says nothing of how fast it was made. */
const SHORTEST_SECONDS = 0.05;

export class LiveAnswer {
  readonly id = newId();
  readonly model: string;
  readonly text = signal("");
  readonly stats = signal<AnswerStats>({ tokens: 0 });
  readonly #gone = new AbortController();
  #pieces: string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tokens = 0;
  #started = 0;
  #first: number | undefined;
  #last = 0;
  #usage: Usage | undefined;

  constructor(model: string) {
    this.model = model;
  }

  stop(): void {
    this.#gone.abort();
  }

  /** Streams to the end, whichever it is. */
  async run({ system, messages, sampling }: Conversation): Promise<AssistantMessage> {
    this.#started = performance.now();
    const request = { ...sampling, model: this.model, messages: requestMessages({ system, messages }) };
    let end: AssistantMessage["end"] = "stop";
    try {
      for await (const event of streamChat(request, this.#gone.signal)) {
        if (event.type === "text") this.#add(event.text);
        else if (event.type === "usage") this.#usage = event.usage;
        else if (event.reason === "length") end = "length";
      }
    } catch (error) {
      if (this.#gone.signal.aborted) return this.message("stopped");
      if (!(error instanceof RequestError)) throw error;
      return this.message("failed", error.trouble);
    }
    return this.message(end);
  }

  /** The answer as far as it is there. */
  message(end: AssistantMessage["end"], trouble?: Trouble): AssistantMessage {
    this.#show();
    const { id, model } = this;
    const content = this.text.peek();
    return { id, role: "assistant", content, model, end, stats: this.stats.peek(), ...(trouble && { trouble }) };
  }

  #add(text: string): void {
    this.#last = performance.now();
    this.#first ??= this.#last;
    this.#tokens++;
    this.#pieces.push(text);
    this.#timer ??= setTimeout(() => this.#show(), SHOW_MS);
  }

  #show(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.text.value += this.#pieces.join("");
    this.#pieces = [];
    const tokens = this.#usage?.answerTokens ?? this.#tokens;
    const seconds = (this.#last - (this.#first ?? 0)) / 1000;
    this.stats.value = {
      tokens,
      ...(this.#usage && { promptTokens: this.#usage.promptTokens, cachedTokens: this.#usage.cachedTokens }),
      ...(this.#first !== undefined && { firstTokenMs: this.#first - this.#started }),
      ...(tokens > 1 && seconds >= SHORTEST_SECONDS && { tokensPerSecond: (tokens - 1) / seconds }),
    };
  }
}

export const liveAnswers = signal<ReadonlyMap<string, LiveAnswer>>(new Map());

const ENDINGS: Readonly<Record<AssistantMessage["end"], string>> = {
  stop: "End of answer.",
  length: "The answer ended at the token limit.",
  stopped: "The answer was stopped.",
  failed: "The answer failed.",
};

/** Answers the conversation's last message. */
export async function startAnswer(id: string): Promise<void> {
  if (liveAnswers.peek().has(id)) return;
  if (!baseModel.peek()) await refreshModels();
  const conversation = find(id);
  if (!conversation || liveAnswers.peek().has(id)) return;
  const live = new LiveAnswer(conversation.model || (baseModel.peek()?.id ?? ""));
  liveAnswers.value = new Map([...liveAnswers.peek(), [id, live]]);
  announce("The model is answering.");
  const message = await live.run(conversation);
  if (liveAnswers.peek().get(id) !== live) return;
  keepAnswer(id, message);
  forget(id);
  if (message.trouble) {
    announce(`${message.trouble.title}. ${message.trouble.advice}`);
    await Promise.all([checkServer(), refreshModels()]);
  } else announceAnswer(message.content, ENDINGS[message.end]);
}

/** What is there of it is kept. */
export function stopAnswer(id: string): void {
  liveAnswers.peek().get(id)?.stop();
}

/** Stops it and keeps nothing of it: what it answers has changed or gone. */
export function discardAnswer(id: string): void {
  stopAnswer(id);
  forget(id);
}

function forget(id: string): void {
  liveAnswers.value = new Map([...liveAnswers.peek()].filter(([other]) => other !== id));
}

/** What is there of the running answers survives the page. */
export function keepAnswersOnLeaving(): void {
  window.addEventListener("pagehide", () => {
    for (const [id, live] of liveAnswers.peek()) {
      live.stop();
      keepAnswer(id, live.message("stopped"));
    }
  });
}

function keepAnswer(id: string, message: AssistantMessage): void {
  const conversation = find(id);
  if (!conversation) return;
  const messages = [...conversation.messages.filter((other) => other.id !== message.id), message];
  change(id, { messages, updated: Date.now() });
}
