/** POST /tokenize and POST /detokenize */
import type { Context } from "hono";
import { readJson } from "../body.ts";
import { invalidRequest } from "../errors.ts";
import { encodeText, renderMessages } from "../prompt.ts";
import { parseRequest } from "../schemas/check.ts";
import { detokenizeRequest, tokenizeRequest } from "../schemas/tokenize.ts";
import { findAdapter } from "../served_model.ts";
import { requireServed, type Service } from "../service.ts";

export async function postTokenize(c: Context, service: Service): Promise<Response> {
  const served = requireServed(service);
  const request = parseRequest(tokenizeRequest, await readJson(c));
  const { prompt, messages } = request;
  if (request.model !== undefined) findAdapter(served, request.model);
  const { contextLength } = served.engine.requireModel();
  const encode = (text: string, param: string, addSpecialTokens: boolean) =>
    encodeText(served.tokenizer, text, { contextLength, param, addSpecialTokens });
  let tokens: number[];
  if (messages !== undefined && prompt === undefined) {
    const options = { addGenerationPrompt: request.add_generation_prompt };
    const text = renderMessages(served.tokenizer, messages, options, "messages");
    tokens = await encode(text, "messages", request.add_special_tokens ?? false);
  } else if (prompt !== undefined && messages === undefined) {
    tokens = await encode(prompt, "prompt", request.add_special_tokens ?? true);
  } else {
    throw invalidRequest("Cannot tokenize: expected either prompt or messages", "prompt");
  }
  const { vocabulary } = served.tokenizer;
  return c.json({
    count: tokens.length,
    max_model_len: contextLength,
    tokens,
    token_strs: request.return_token_strs ? tokens.map((token) => vocabulary[token] ?? null) : null,
  });
}

export async function postDetokenize(c: Context, service: Service): Promise<Response> {
  const served = requireServed(service);
  const { model, tokens } = parseRequest(detokenizeRequest, await readJson(c));
  if (model !== undefined) findAdapter(served, model);
  const { contextLength, vocabSize } = served.engine.requireModel();
  // As long as any text that this model can have read or written.
  if (tokens.length > contextLength) {
    const message = `Cannot use tokens: received ${tokens.length}, expected at most ${contextLength}, the model's context`;
    throw invalidRequest(message, "tokens", "context_length_exceeded");
  }
  const outside = tokens.find((token) => token >= vocabSize);
  if (outside !== undefined) {
    throw invalidRequest(`Cannot use tokens: received ${outside}, expected token ids below ${vocabSize}`, "tokens");
  }
  return c.json({ prompt: served.tokenizer.decode(tokens, { skipSpecialTokens: false }) });
}
