/** How long an answer is and how fast it came. */
import type { AnswerStats } from "../state/conversation.ts";
import { formatMs, formatNumber } from "../ui/format.ts";

export function Stats({ stats, ending }: { stats: AnswerStats; ending?: string | undefined }) {
  const { tokens, tokensPerSecond, firstTokenMs, promptTokens, cachedTokens } = stats;
  const prompt =
    promptTokens === undefined
      ? undefined
      : `${formatNumber(promptTokens)} tokens read, ${formatNumber(cachedTokens ?? 0)} of them from the cache`;
  // Until the server has counted them, pieces of text stand for tokens; some hold more than one.
  const about = promptTokens === undefined ? "~" : "";
  return (
    <p class="stats" title={prompt}>
      {ending && <span class="ending">{ending}</span>}
      <span>{`${about}${formatNumber(tokens)} ${tokens === 1 ? "token" : "tokens"}`}</span>
      {tokensPerSecond !== undefined && <span>{`${about}${formatNumber(tokensPerSecond)} tokens/s`}</span>}
      {firstTokenMs !== undefined && <span>{`first token after ${formatMs(firstTokenMs)}`}</span>}
    </p>
  );
}
