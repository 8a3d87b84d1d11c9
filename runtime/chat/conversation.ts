/** A conversation with a model in this program, as `apiq chat` holds it. */
import type { EngineClient } from "../engine/client.ts";
import type { SamplingParams } from "../engine/protocol.ts";
import type { ChatMessage, Tokenizer } from "../tokenizer/mod.ts";
import { generateText } from "./generate.ts";

export interface ConversationOptions {
  readonly system: string | undefined;
  /** Name of a loaded adapter; undefined: the base model. */
  readonly adapter: string | undefined;
  /** Longest answer in tokens; undefined: what fits into the context. */
  readonly maxTokens: number | undefined;
  readonly sampling: SamplingParams;
}

export class Conversation {
  readonly #engine: EngineClient;
  readonly #tokenizer: Tokenizer;
  readonly #options: ConversationOptions;
  #messages: ChatMessage[] = [];
  #turn = 0;

  /** Takes over `engine`, which must be ready, and closes it in `close`. */
  constructor(engine: EngineClient, tokenizer: Tokenizer, options: ConversationOptions) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.#options = options;
    this.reset();
  }

  /** Forgets everything but the system prompt. */
  reset(): void {
    const { system } = this.#options;
    this.#messages = system === undefined ? [] : [{ role: "system", content: system }];
  }

  /**
   * Yields the answer to a message piece by piece. An answer that is cut short, by whatever, stays in the conversation as far
   * as it came; a message that gets no answer at all does not.
   */
  async *say(content: string, signal: AbortSignal): AsyncGenerator<string, void, void> {
    const asked: ChatMessage[] = [...this.#messages, { role: "user", content }];
    const prompt = this.#tokenizer.encodeChat(asked);
    const { contextLength } = this.#engine.requireModel();
    const room = contextLength - prompt.length;
    if (room < 1) {
      throw new Error(
        `The conversation is too long: it has ${prompt.length} tokens and the context holds ${contextLength}; start anew with /reset`,
      );
    }
    const { sampling, adapter, maxTokens } = this.#options;
    const request = {
      id: `chat-${this.#turn++}`,
      prompt,
      maxTokens: Math.min(maxTokens ?? room, room),
      stopTokens: this.#tokenizer.stopTokens,
      sampling,
      ...(adapter !== undefined && { adapter }),
    };
    let answer = "";
    for await (const { text } of generateText(this.#engine, request, this.#tokenizer.detokenizer(), [], signal)) {
      answer += text;
      // Said before it is shown, so that a reader who leaves the loop finds in the conversation what was seen.
      this.#messages = [...asked, { role: "assistant", content: answer }];
      if (text !== "") yield text;
    }
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }
}
