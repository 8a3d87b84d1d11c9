/** What a request must satisfy before native code sees any of it. */
import { MAX_LOGIT_BIASES, MAX_TOP_LOGPROBS } from "./model_runner.ts";
import type { EngineModelInfo, EngineRequest, SamplingParams } from "./protocol.ts";

/**
 * @param capacity tokens that fit into the KV cache for one sequence
 * @throws Error naming the field, what was received and what was expected
 */
export function checkRequest(request: EngineRequest, model: EngineModelInfo, capacity: number): void {
  const fail = (field: string, received: unknown, expected: string): never => {
    throw new Error(`Cannot run request ${request.id}: ${field} received ${String(received)}, expected ${expected}`);
  };
  const isToken = (token: number): boolean => Number.isInteger(token) && token >= 0 && token < model.vocabSize;
  const tokens = `token ids below ${model.vocabSize}`;
  if (request.prompt.length === 0) fail("prompt", "no tokens", "at least one");
  const badToken = request.prompt.find((token) => !isToken(token));
  if (badToken !== undefined) fail("prompt", badToken, tokens);
  if (!Number.isInteger(request.maxTokens) || request.maxTokens < 1)
    fail("maxTokens", request.maxTokens, "a positive integer");
  const length = request.prompt.length + request.maxTokens;
  if (length > capacity) fail("prompt and maxTokens", `${length} tokens`, `at most ${capacity} together`);
  const badStop = request.stopTokens.find((token) => !isToken(token));
  if (badStop !== undefined) fail("stopTokens", badStop, tokens);
  checkSampling(request.sampling, isToken, fail);
}

type Fail = (field: string, received: unknown, expected: string) => never;

function checkSampling(s: SamplingParams, isToken: (token: number) => boolean, fail: Fail): void {
  const within = (name: keyof SamplingParams, low: number, high: number): void => {
    const value = s[name];
    if (typeof value !== "number" || !(value >= low && value <= high))
      fail(name, value, `a number from ${low} to ${high}`);
  };
  within("temperature", 0, 100);
  within("topP", Number.MIN_VALUE, 1);
  within("minP", 0, 1);
  within("repetitionPenalty", 0.01, 100);
  within("presencePenalty", -100, 100);
  within("frequencyPenalty", -100, 100);
  within("topK", 0, 2 ** 31 - 1);
  if (!Number.isInteger(s.topK)) fail("topK", s.topK, "an integer");
  if (typeof s.seed !== "bigint" || s.seed < 0n || s.seed >= 1n << 64n) fail("seed", s.seed, "64 bits");
  if (s.logprobs !== undefined) {
    within("logprobs", 0, MAX_TOP_LOGPROBS);
    if (!Number.isInteger(s.logprobs)) fail("logprobs", s.logprobs, "an integer");
  }
  if (s.logitBias.length > MAX_LOGIT_BIASES)
    fail("logitBias", `${s.logitBias.length} entries`, `at most ${MAX_LOGIT_BIASES}`);
  for (const [token, bias] of s.logitBias) {
    if (!isToken(token) || !Number.isFinite(bias))
      fail("logitBias", `[${token}, ${bias}]`, "a token id and a finite number");
  }
}
