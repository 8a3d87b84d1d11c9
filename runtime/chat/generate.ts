/** From token ids to text: engine outputs through the detokeniser and the stop strings. */
import type { EngineClient } from "../engine/client.ts";
import type { EngineRequest, TokenLogprob } from "../engine/protocol.ts";
import type { Detokenizer } from "../tokenizer/mod.ts";
import { StopStrings } from "./stop_strings.ts";

export interface TextDelta {
  /** May be empty: a token can end within a character or a possible stop string. */
  text: string;
  /** How many tokens were generated for this delta, including one that ended the answer. */
  tokens: number;
  /** Of the tokens that are part of the text; present if the request asked for log-probabilities. */
  logprobs?: readonly TokenLogprob[];
  /** With the first delta: prompt tokens that did not have to be computed. */
  cachedTokens?: number;
  /** Likewise: how long the request waited for the engine to begin with it. */
  queueSeconds?: number;
  finish?: "stop" | "length";
}

/** What `generateText` needs of an engine: all of it that yields tokens. */
export type TokenSource = Pick<EngineClient, "generate">;

/**
 * Runs `request` and yields its text as it comes; the last delta has `finish`. A stop string ends the answer before it (and
 * the request in the engine at once). Ends without `finish` only when `signal` is aborted. Errors are the engine client's.
 */
export async function* generateText(
  engine: TokenSource,
  request: EngineRequest,
  detokenizer: Detokenizer,
  stop: readonly string[],
  signal?: AbortSignal,
): AsyncGenerator<TextDelta, void, void> {
  const stops = new StopStrings(stop);
  for await (const output of engine.generate(request, signal)) {
    let text = "";
    let stopped = false;
    let used = 0;
    for (const token of output.tokens) {
      used++;
      // A stop token is reported by the engine but is a mark, not text.
      if (request.stopTokens.includes(token)) break;
      const shown = stops.push(detokenizer.push(token));
      text += shown.text;
      stopped = shown.stopped;
      if (stopped) break;
    }
    const logprobs = output.logprobs?.slice(0, used).filter(({ token }) => !request.stopTokens.includes(token));
    const cached = output.sharedTokens !== undefined && { cachedTokens: output.sharedTokens };
    const queued = output.queueSeconds !== undefined && { queueSeconds: output.queueSeconds };
    const delta: TextDelta = { text, tokens: used, ...(logprobs && { logprobs }), ...cached, ...queued };
    if (stopped) {
      yield { ...delta, finish: "stop" };
      return;
    }
    if (output.finish === "stop" || output.finish === "length") {
      const last = stops.push(detokenizer.flush());
      const rest = last.stopped ? last.text : last.text + stops.flush();
      yield { ...delta, text: text + rest, finish: last.stopped ? "stop" : output.finish };
      return;
    }
    yield delta;
  }
}
