/** From a checked request to text: engine requests for every prompt and choice, and their deltas as they come. */
import type { AdapterLease } from "../runtime/adapters/registry.ts";
import { generateText, type TextDelta } from "../runtime/chat/generate.ts";
import { randomSeed } from "../runtime/chat/sampling.ts";
import type { EngineModelInfo, EngineRequest, SamplingParams } from "../runtime/engine/protocol.ts";
import type { GrammarSpec } from "../runtime/grammar/spec.ts";
import { invalidRequest } from "./errors.ts";
import { interleave } from "./interleave.ts";
import { primed } from "./primed.ts";
import type { RequestRecord } from "./request_record.ts";
import { leaseAdapter, type ServedModel } from "./served_model.ts";
import { requireServed, type Service } from "./service.ts";

/** What to generate, in the engine's terms. */
export interface GenerationPlan {
  /** Begins the id, as in "chatcmpl-". */
  readonly idPrefix: string;
  readonly model: string;
  readonly prompts: readonly (readonly number[])[];
  /** How many choices per prompt. */
  readonly choices: number;
  /** Tokens that each prompt's choices may have; 0: they are not generated at all. */
  maxTokens(promptTokens: number): number;
  readonly sampling: SamplingParams;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  /** What the answers must be; absent: anything. */
  readonly grammar?: GrammarSpec | undefined;
  /** Special tokens that are text in the answers, as they are spelled. */
  readonly shownTokens?: ReadonlySet<string> | undefined;
}

export interface ChoiceDelta extends TextDelta {
  /** Choices of the first prompt come first. */
  readonly index: number;
}

/** What the prompts took; complete when the deltas are. */
export interface PromptUsage {
  readonly tokens: number;
  /** Of those, the ones that the prefix cache held. A prompt with several choices counts once. */
  readonly cachedTokens: number;
}

/** Answers in the making. What the engine holds for them is freed when the deltas end, and at the latest with the request. */
export interface Generation {
  readonly id: string;
  /** Unix time in seconds. */
  readonly created: number;
  readonly model: string;
  readonly prompt: PromptUsage;
  /** How many choices there will be, over all prompts. */
  readonly choices: number;
  /** Ends early, with choices unfinished, only when the request's signal is aborted. */
  readonly deltas: AsyncGenerator<ChoiceDelta, void, void>;
}

/**
 * How long an answer with a grammar may keep its client waiting without a word, so that a grammar that cannot be used is an
 * error with a status and not a stream that breaks off. Longer than the engine takes to refuse one.
 */
const GRAMMAR_MS = 6_000;

/**
 * Prepares the answers to `plan`. Throws an ApiError when the model is not known or the queue is full, and what the engine
 * says of a grammar it cannot use. Aborting `signal` ends the deltas and frees what the engine holds for them; where the
 * request itself was stopped, they throw why. Choices of one prompt after the first begin when that has its first token: the
 * prefix cache holds the prompt by then.
 */
export async function startGeneration(
  service: Service,
  plan: GenerationPlan,
  signal: AbortSignal,
): Promise<Generation> {
  const served = requireServed(service);
  const { maxSequences } = served.engine.requireModel();
  const budgets = plan.prompts.map(({ length }) => plan.maxTokens(length));
  // All choices are of one generation of the adapter, whatever is loaded meanwhile.
  const lease = leaseAdapter(served, plan.model);
  const id = `${plan.idPrefix}${crypto.randomUUID()}`;
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  const sources = plan.prompts.flatMap((prompt, promptIndex) =>
    Array.from({ length: plan.choices }, (_, choice) => {
      const index = promptIndex * plan.choices + choice;
      const request: EngineRequest = {
        id: `${id}-${index}`,
        prompt,
        maxTokens: budgets[promptIndex] ?? 0,
        stopTokens: plan.ignoreEos ? [] : served.tokenizer.stopTokens,
        sampling: { ...plan.sampling, seed: BigInt.asUintN(64, plan.sampling.seed + BigInt(index)) },
        ...(lease && { adapter: lease.adapter.key }),
        ...(plan.grammar && { grammar: plan.grammar }),
      };
      if (request.maxTokens === 0) return nothing();
      const detokenizer = served.tokenizer.detokenizer(plan.shownTokens);
      const deltas = generateText(served.engine, request, detokenizer, plan.stop, either);
      return service.metrics.measured(deltas, prompt.length);
    }),
  );
  const leave = admit(service, sources.length, maxSequences, lease);
  const { request } = service;
  const [first] = sources;
  // The deltas of a client that goes before it reads any never begin, and so never end.
  request.whenEnded(() => {
    ended.abort();
    first?.return().catch(() => {});
    leave();
  });
  if (plan.grammar && first) sources[0] = await primed(first, GRAMMAR_MS);
  const prompt = { tokens: plan.prompts.reduce((sum, { length }) => sum + length, 0), cachedTokens: 0 };
  Object.assign(request.facts, { model: plan.model, promptTokens: prompt.tokens });
  request.spend(prompt.tokens);
  async function* deltas(): AsyncGenerator<ChoiceDelta, void, void> {
    let unfinished = sources.length;
    try {
      for await (const [index, delta] of interleave(sources, plan.choices)) {
        if (index % plan.choices === 0) prompt.cachedTokens += delta.cachedTokens ?? 0;
        if (delta.finish) unfinished--;
        noteDelta(request, delta);
        yield { ...delta, index };
      }
      if (unfinished > 0 && request.signal.aborted) throw request.signal.reason;
    } catch (error) {
      request.facts.finish = "error";
      throw error;
    } finally {
      request.facts.finish ??= "abort";
      ended.abort();
      leave();
    }
  }
  return {
    id,
    created: Math.floor(Date.now() / 1000),
    model: plan.model,
    prompt,
    choices: sources.length,
    deltas: deltas(),
  };
}

/** Lets the answers in, or gives their adapter back and throws an ApiError. The function it returns does both, once. */
function admit(
  { admission }: Service,
  count: number,
  maxSequences: number,
  lease: AdapterLease | undefined,
): () => void {
  try {
    const leave = admission.enter(count, maxSequences);
    return () => {
      leave();
      lease?.release();
    };
  } catch (error) {
    lease?.release();
    throw error;
  }
}

function noteDelta({ facts, seconds, spend }: RequestRecord, delta: TextDelta): void {
  facts.firstTokenSeconds ??= Number(seconds.toFixed(4));
  facts.queueSeconds ??= delta.queueSeconds;
  facts.cachedTokens = (facts.cachedTokens ?? 0) + (delta.cachedTokens ?? 0);
  facts.generatedTokens = (facts.generatedTokens ?? 0) + delta.tokens;
  facts.finish ??= delta.finish;
  spend(delta.tokens);
}

async function* nothing(): AsyncGenerator<TextDelta, void, void> {
  yield { text: "", tokens: 0, finish: "length" };
}

/** Sampling fields as the routes have them; absent ones take the model's defaults. */
export interface SamplingRequest {
  readonly temperature?: number | undefined;
  readonly top_p?: number | undefined;
  readonly top_k?: number | undefined;
  readonly min_p?: number | undefined;
  readonly repetition_penalty?: number | undefined;
  readonly presence_penalty?: number;
  readonly frequency_penalty?: number;
  readonly seed?: number | undefined;
  readonly logit_bias?: Readonly<Record<string, number>>;
}

/** `logprobs`: how many alternatives to report; undefined for no log-probabilities. Throws an ApiError for a token that is none. */
export function samplingOf(
  request: SamplingRequest,
  { defaults }: ServedModel,
  { vocabSize }: EngineModelInfo,
  logprobs: number | undefined,
): SamplingParams {
  const logitBias = Object.entries(request.logit_bias ?? {}).map(([token, bias]) => [Number(token), bias] as const);
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
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    seed: request.seed === undefined ? randomSeed() : BigInt.asUintN(64, BigInt(request.seed)),
    logitBias,
    ...(logprobs !== undefined && { logprobs }),
  };
}
