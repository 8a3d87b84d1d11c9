/** What is common to the objects of all routes that generate. */
import type { TokenLogprob } from "../../runtime/engine/protocol.ts";
import type { PromptUsage } from "../generation.ts";

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
}

export function usageObject(prompt: PromptUsage, completionTokens: number): Usage {
  return {
    prompt_tokens: prompt.tokens,
    completion_tokens: completionTokens,
    total_tokens: prompt.tokens + completionTokens,
    prompt_tokens_details: { cached_tokens: prompt.cachedTokens },
  };
}

/** All deltas of a choice. */
export interface WholeChoice<Delta, Finish> {
  readonly index: number;
  readonly deltas: readonly Delta[];
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly finish: Finish;
}

interface AnyDelta {
  readonly index: number;
  readonly tokens: number;
  readonly logprobs?: readonly TokenLogprob[];
  readonly finish?: string;
}

/** Waits for all choices. Undefined if the client went away before they were complete. */
export async function wholeChoices<Delta extends AnyDelta>(generation: {
  readonly choices: number;
  readonly deltas: AsyncGenerator<Delta, void, void>;
}): Promise<{ choices: readonly WholeChoice<Delta, NonNullable<Delta["finish"]>>[]; tokens: number } | undefined> {
  const byChoice = Array.from({ length: generation.choices }, (): Delta[] => []);
  for await (const delta of generation.deltas) byChoice[delta.index]?.push(delta);
  const choices: WholeChoice<Delta, NonNullable<Delta["finish"]>>[] = [];
  for (const [index, deltas] of byChoice.entries()) {
    const finish: Delta["finish"] = deltas.at(-1)?.finish;
    if (finish === undefined) return undefined;
    const hasLogprobs = deltas.some(({ logprobs }) => logprobs);
    choices.push({
      index,
      deltas,
      logprobs: hasLogprobs ? deltas.flatMap(({ logprobs }) => logprobs ?? []) : undefined,
      finish,
    });
  }
  const tokens = byChoice.flat().reduce((sum, delta) => sum + delta.tokens, 0);
  return { choices, tokens };
}
