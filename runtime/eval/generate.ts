/** Greedy answers to many prompts, batched through the engine: a prompt enters as soon as another answer is done. */
import { StopStrings } from "../chat/stop_strings.ts";
import { type EngineCore, GREEDY } from "../engine/protocol.ts";
import type { Detokenizer, Tokenizer } from "../tokenizer/mod.ts";

export interface GenerationOptions {
  maxTokens: number;
  /** Texts that end an answer and are not part of it, besides the model's own end tokens. */
  stop: readonly string[];
  /** Name of a loaded adapter, or undefined for the model as it is. */
  adapter: string | undefined;
}

export interface Generation {
  /** Place of the prompt in the list. */
  index: number;
  text: string;
  tokens: number;
  finish: "stop" | "length";
}

interface Running {
  readonly index: number;
  readonly detokenizer: Detokenizer;
  readonly stops: StopStrings;
  text: string;
  tokens: number;
}

/**
 * Yields every answer when it is done, whichever is first; control returns to the caller in between, after every engine step.
 *
 * @param prompts token ids, each with room for its answer in the engine's context
 * @throws Error when the engine refuses a prompt
 */
export function* generateAll(
  engine: EngineCore,
  tokenizer: Tokenizer,
  prompts: readonly (readonly number[])[],
  options: GenerationOptions,
): Generator<Generation[], void, void> {
  const stopTokens = new Set(tokenizer.stopTokens);
  const running = new Map<string, Running>();
  for (const [index, prompt] of prompts.entries()) {
    const id = `${index}`;
    engine.add({
      id,
      prompt,
      maxTokens: options.maxTokens,
      stopTokens: tokenizer.stopTokens,
      sampling: GREEDY,
      ...(options.adapter !== undefined && { adapter: options.adapter }),
    });
    const detokenizer = tokenizer.detokenizer();
    running.set(id, { index, detokenizer, stops: new StopStrings(options.stop), text: "", tokens: 0 });
  }
  while (running.size > 0) {
    const done: Generation[] = [];
    for (const { id, tokens, finish, error } of engine.step()) {
      const state = running.get(id);
      if (!state) continue;
      if (error !== undefined) throw new Error(`Cannot answer prompt ${id}: ${error}`);
      const stopped = take(state, tokens, stopTokens);
      if (!stopped && finish === undefined) continue;
      if (stopped && finish === undefined) engine.abort(id);
      else if (!stopped) state.text += rest(state);
      running.delete(id);
      const reason = stopped || finish === "stop" ? "stop" : "length";
      done.push({ index: state.index, text: state.text, tokens: state.tokens, finish: reason });
    }
    yield done;
  }
}

/** Adds the tokens' text; true when a stop string is complete. */
function take(state: Running, tokens: readonly number[], stopTokens: ReadonlySet<number>): boolean {
  for (const token of tokens) {
    state.tokens++;
    if (stopTokens.has(token)) return false;
    const { text, stopped } = state.stops.push(state.detokenizer.push(token));
    state.text += text;
    if (stopped) return true;
  }
  return false;
}

/** What detokenizer and stop strings still held back. */
function rest({ detokenizer, stops }: Running): string {
  const last = stops.push(detokenizer.flush());
  return last.stopped ? last.text : last.text + stops.flush();
}
