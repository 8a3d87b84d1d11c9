/** One chat completion: from a checked request to text deltas, and from those to OpenAI's objects. */
import { generateText, type TextDelta } from "../runtime/chat/generate.ts";
import { randomSeed } from "../runtime/chat/sampling.ts";
import type { EngineModelInfo, EngineRequest, SamplingParams } from "../runtime/engine/protocol.ts";
import { ApiError, invalidRequest } from "./errors.ts";
import { contextExceeded, encodePrompt } from "./prompt.ts";
import type { ChatRequest } from "./schemas.ts";
import type { ServedModel } from "./served_model.ts";

/** An answer in the making. Nothing runs before `deltas` is iterated. */
export interface Completion {
  readonly id: string;
  /** Unix time in seconds. */
  readonly created: number;
  readonly model: string;
  readonly promptTokens: number;
  readonly deltas: AsyncGenerator<TextDelta, void, void>;
}

/**
 * Prepares the completion of `request`: renders the template, counts tokens, fills in defaults. Throws an ApiError when the
 * model is not known, the conversation does not fit its context or its template refuses it. Aborting `signal` ends `deltas`
 * and frees what the engine holds for it.
 */
export async function startCompletion(
  served: ServedModel,
  request: ChatRequest,
  signal: AbortSignal,
): Promise<Completion> {
  const adapter = findAdapter(served, request.model);
  const info = served.engine.requireModel();
  const prompt = await encodePrompt(served.tokenizer, request.messages, info.contextLength);
  const id = `chatcmpl-${crypto.randomUUID()}`;
  const engineRequest: EngineRequest = {
    id,
    prompt,
    maxTokens: answerBudget(request, prompt.length, info),
    stopTokens: served.tokenizer.stopTokens,
    sampling: samplingOf(request, served, info),
    ...(adapter !== undefined && { adapter }),
  };
  return {
    id,
    created: Math.floor(Date.now() / 1000),
    model: request.model,
    promptTokens: prompt.length,
    deltas: generateText(served.engine, engineRequest, served.tokenizer.detokenizer(), request.stop, signal),
  };
}

/** The adapter that a model name stands for, undefined for the base. */
function findAdapter(served: ServedModel, model: string): string | undefined {
  if (model === served.name) return undefined;
  if (served.adapters.includes(model)) return model;
  throw modelNotFound(served, model);
}

export function modelNotFound(served: ServedModel, model: string): ApiError {
  const known = [served.name, ...served.adapters].join(", ");
  return new ApiError(404, "model_not_found", `The model "${model}" does not exist; this server has ${known}`, "model");
}

/** How many tokens the answer may have: what was asked for, or all that fits. */
function answerBudget(request: ChatRequest, promptTokens: number, { contextLength }: EngineModelInfo): number {
  const room = contextLength - promptTokens;
  const asked = request.max_completion_tokens ?? request.max_tokens;
  if (asked === undefined ? room > 0 : asked <= room) return asked ?? room;
  const wanted = asked === undefined ? "" : ` and ${asked} were asked for the answer`;
  throw contextExceeded(contextLength, `${promptTokens}${wanted}`);
}

function samplingOf(request: ChatRequest, { defaults }: ServedModel, { vocabSize }: EngineModelInfo): SamplingParams {
  if (request.top_logprobs !== undefined && !request.logprobs) {
    throw invalidRequest("Cannot use top_logprobs: it needs logprobs to be true", "top_logprobs");
  }
  const logitBias = Object.entries(request.logit_bias).map(([token, bias]) => [Number(token), bias] as const);
  const outside = logitBias.find(([token]) => token >= vocabSize);
  if (outside) {
    const expected = `expected a token id below ${vocabSize}`;
    throw invalidRequest(`Cannot use logit_bias: received token ${outside[0]}, ${expected}`, "logit_bias");
  }
  const topP = request.top_p ?? defaults.topP;
  return {
    // A nucleus of nothing still holds the most likely token, which is what greedy takes.
    temperature: topP === 0 ? 0 : (request.temperature ?? defaults.temperature),
    topP: topP === 0 ? 1 : topP,
    // -1 is how other servers of open models write "off".
    topK: Math.max(0, request.top_k ?? defaults.topK),
    minP: request.min_p ?? defaults.minP,
    repetitionPenalty: request.repetition_penalty ?? defaults.repetitionPenalty,
    presencePenalty: request.presence_penalty,
    frequencyPenalty: request.frequency_penalty,
    seed: request.seed === undefined ? randomSeed() : BigInt.asUintN(64, BigInt(request.seed)),
    logitBias,
    ...(request.logprobs && { logprobs: request.top_logprobs ?? 0 }),
  };
}
