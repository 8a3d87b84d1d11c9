/** Log-probabilities in OpenAI's shapes. */
import type { TokenLogprob } from "../../runtime/engine/protocol.ts";
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";

export interface LogprobEntry {
  readonly token: string;
  readonly logprob: number;
  /** Null for a token that is only a part of a character. */
  readonly bytes: readonly number[] | null;
  readonly top_logprobs: readonly Omit<LogprobEntry, "top_logprobs">[];
}

/** As chat completions and responses have them. */
export function logprobEntries(logprobs: readonly TokenLogprob[], tokenizer: Tokenizer): LogprobEntry[] {
  const entry = (id: number, logprob: number) => {
    const token = tokenText(id, tokenizer);
    return { token, logprob, bytes: token.includes("\uFFFD") ? null : [...new TextEncoder().encode(token)] };
  };
  return logprobs.map(({ token, logprob, top }) => ({
    ...entry(token, logprob),
    top_logprobs: top.map(([other, value]) => entry(other, value)),
  }));
}

/** As completions have them. `offset`: where the first token's text begins, in characters. */
export function completionLogprobs(
  logprobs: readonly TokenLogprob[] | undefined,
  tokenizer: Tokenizer,
  offset: number,
): object | null {
  if (!logprobs) return null;
  const tokens = logprobs.map(({ token }) => tokenText(token, tokenizer));
  let at = offset;
  return {
    tokens,
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map(([token, logprob]) => [tokenText(token, tokenizer), logprob])),
    ),
    text_offset: tokens.map((text) => {
      const start = at;
      at += text.length;
      return start;
    }),
  };
}

/** A token's text within a text: at the start of one some tokenizers drop its leading space. */
function tokenText(id: number, tokenizer: Tokenizer): string {
  const options = { skipSpecialTokens: false };
  return tokenizer.decode([id, id], options).slice(tokenizer.decode([id], options).length);
}
