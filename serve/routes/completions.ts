/** POST /v1/completions */
import type { Context } from "hono";
import type { EngineModelInfo } from "../../runtime/engine/protocol.ts";
import type { Tokenizer } from "../../runtime/tokenizer/mod.ts";
import { readJson } from "../body.ts";
import { invalidRequest, unsupported } from "../errors.ts";
import { samplingOf, startGeneration } from "../generation.ts";
import { completionEvents, completionObject, type EchoedGeneration } from "../objects/completion_objects.ts";
import { answerBudget, encodeText } from "../prompt.ts";
import { parseRequest } from "../schemas/check.ts";
import { MAX_CHOICES } from "../schemas/common.ts";
import { type CompletionRequest, completionRequest } from "../schemas/completions.ts";
import { findAdapter } from "../served_model.ts";
import { requireServed, type Service } from "../service.ts";
import { respond } from "./respond.ts";

const PARAM = "prompt";

export async function postCompletions(c: Context, service: Service): Promise<Response> {
  const { tokenizer } = requireServed(service);
  const request = parseRequest(completionRequest, await readJson(c));
  return await respond(c, service, request.stream, async (signal) => {
    const generation = await startCompletion(service, request, signal);
    const includeUsage = request.stream_options?.include_usage === true;
    return {
      whole: () => completionObject(generation, tokenizer),
      events: () => completionEvents(generation, includeUsage, tokenizer),
    };
  });
}

async function startCompletion(
  service: Service,
  request: CompletionRequest,
  signal: AbortSignal,
): Promise<EchoedGeneration> {
  const served = requireServed(service);
  findAdapter(served, request.model);
  const info = served.engine.requireModel();
  checkTogether(request);
  const sampling = samplingOf(request, served, info, request.logprobs);
  const prompts = await encodePrompts(request, served.tokenizer, info);
  const generation = await startGeneration(
    service,
    {
      idPrefix: "cmpl-",
      model: request.model,
      prompts,
      choices: request.n,
      maxTokens: (tokens) => answerBudget(request.max_tokens, tokens, info, PARAM),
      sampling,
      stop: request.stop,
      ignoreEos: request.ignore_eos,
    },
    signal,
  );
  const echo = (prompt: string | readonly number[]) =>
    typeof prompt === "string" ? prompt : served.tokenizer.decode(prompt, { skipSpecialTokens: false });
  const echoes = request.echo
    ? request.prompt.flatMap((prompt) => new Array<string>(request.n).fill(echo(prompt)))
    : new Array<string>(generation.choices).fill("");
  return { ...generation, echoes };
}

/** Fields that are fine by themselves. Throws an ApiError. */
function checkTogether({ prompt, n, echo, logprobs, max_tokens }: CompletionRequest): void {
  if (prompt.length * n > MAX_CHOICES) {
    const received = `received ${prompt.length} prompts with n ${n}`;
    throw invalidRequest(`Cannot use n: ${received}, expected at most ${MAX_CHOICES} choices per request`, "n");
  }
  if (max_tokens === 0 && !echo) throw invalidRequest("Cannot use max_tokens: 0 needs echo to be true", "max_tokens");
  if (echo && logprobs !== undefined) throw unsupported("logprobs", "logprobs together with echo");
}

async function encodePrompts(
  request: CompletionRequest,
  tokenizer: Tokenizer,
  info: EngineModelInfo,
): Promise<(readonly number[])[]> {
  const encoding = { contextLength: info.contextLength, param: PARAM, addSpecialTokens: request.add_special_tokens };
  const prompts: (readonly number[])[] = [];
  for (const prompt of request.prompt) {
    const tokens = typeof prompt === "string" ? await encodeText(tokenizer, prompt, encoding) : prompt;
    if (tokens.length === 0) throw invalidRequest("Cannot use prompt: it has no tokens", PARAM);
    const outside = tokens.find((token) => token >= info.vocabSize);
    if (outside !== undefined) {
      const expected = `expected token ids below ${info.vocabSize}`;
      throw invalidRequest(`Cannot use prompt: received token ${outside}, ${expected}`, PARAM);
    }
    prompts.push(tokens);
  }
  return prompts;
}
