/** From messages and tools to answers of text and calls: what chat completions and responses have in common. */

import { renderTools, toolFormatOf } from "../runtime/grammar/tools/mod.ts";
import { TOOL_TOKENS } from "../runtime/grammar/vocabulary.ts";
import type { ChatMessage } from "../runtime/tokenizer/mod.ts";
import { type Generation, type SamplingRequest, samplingOf, startGeneration } from "./generation.ts";
import { answerBudget, encodeText, renderMessages } from "./prompt.ts";
import { findAdapter } from "./served_model.ts";
import { requireServed, type Service } from "./service.ts";
import { answerGrammar, type ChatDelta, readAnswers, type ToolRequest } from "./tool_calls.ts";

export interface ConversationRequest extends ToolRequest {
  /** Begins the id, as in "chatcmpl-". */
  readonly idPrefix: string;
  readonly model: string;
  readonly messages: readonly ChatMessage[];
  /** The request's field that holds them, for errors. */
  readonly messagesParam: string;
  readonly choices: number;
  /** Undefined: what fits into the context. */
  readonly maxTokens: number | undefined;
  readonly sampling: SamplingRequest;
  /** How many alternatives to report with each token; undefined for no log-probabilities. */
  readonly logprobs: number | undefined;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
}

export interface ChatGeneration extends Omit<Generation, "deltas"> {
  readonly deltas: AsyncGenerator<ChatDelta, void, void>;
}

/**
 * Prepares the answers: renders the template, counts tokens, fills in defaults. Throws an ApiError when the model is not known,
 * the messages do not fit its context or its template refuses them. Otherwise as startGeneration.
 */
export async function startConversation(
  service: Service,
  request: ConversationRequest,
  signal: AbortSignal,
): Promise<ChatGeneration> {
  const served = requireServed(service);
  const { tokenizer } = served;
  findAdapter(served, request.model);
  const info = served.engine.requireModel();
  const { messagesParam: param, tools, toolChoice } = request;
  const sampling = samplingOf(request.sampling, served, info, request.logprobs);
  const format = toolFormatOf(tokenizer.toolTemplate, tokenizer.vocabulary);
  const grammar = answerGrammar(request, format.family);
  const rendered = renderTools(format, request.messages, toolChoice === "none" ? [] : tools);
  const text = renderMessages(tokenizer, rendered.messages, rendered.tools ? { tools: rendered.tools } : {}, param);
  // The template writes special tokens itself.
  const encoding = { contextLength: info.contextLength, param, addSpecialTokens: false };
  const prompt = await encodeText(tokenizer, text, encoding);
  const hasCalls = tools.length > 0 && toolChoice !== "none";
  const generation = await startGeneration(
    service,
    {
      idPrefix: request.idPrefix,
      model: request.model,
      prompts: [prompt],
      choices: request.choices,
      maxTokens: (tokens) => answerBudget(request.maxTokens, tokens, info, param),
      sampling,
      stop: request.stop,
      ignoreEos: request.ignoreEos,
      grammar,
      shownTokens: hasCalls ? TOOL_TOKENS : undefined,
    },
    signal,
  );
  const family = hasCalls ? format.family : undefined;
  return { ...generation, deltas: readAnswers(generation.deltas, family, tools) };
}
