/** POST /v1/responses */
import type { Context } from "hono";
import type { ChatMessage } from "../../runtime/tokenizer/mod.ts";
import { readJson } from "../body.ts";
import { startConversation } from "../conversation.ts";
import { invalidRequest } from "../errors.ts";
import { ResponseWriter } from "../objects/response_events.ts";
import { parseRequest } from "../schemas/check.ts";
import { type ResponseRequest, responseRequest } from "../schemas/responses.ts";
import { requireServed, type Service } from "../service.ts";
import { respond } from "./respond.ts";

export async function postResponses(c: Context, service: Service): Promise<Response> {
  const { tokenizer, defaults } = requireServed(service);
  const request = parseRequest(responseRequest, await readJson(c));
  return await respond(c, service, request.stream, async (signal) => {
    const generation = await startConversation(service, conversation(request), signal);
    const sampling = {
      temperature: request.temperature ?? defaults.temperature,
      topP: request.top_p ?? defaults.topP,
    };
    const head = { id: generation.id, created: generation.created, request, sampling };
    const writer = new ResponseWriter(head, tokenizer);
    return {
      whole: () => writer.whole(generation),
      events: () => writer.events(generation),
      failure: (error) => writer.failure(error),
    };
  });
}

function conversation(request: ResponseRequest) {
  const hasLogprobs = request.include.length > 0;
  if (request.top_logprobs !== undefined && !hasLogprobs) {
    const message = "Cannot use top_logprobs: it needs message.output_text.logprobs in include";
    throw invalidRequest(message, "top_logprobs");
  }
  const instructions: ChatMessage[] =
    request.instructions === undefined ? [] : [{ role: "system", content: request.instructions }];
  return {
    idPrefix: "resp_",
    model: request.model,
    messages: [...instructions, ...request.input],
    messagesParam: "input",
    tools: request.tools,
    toolChoice: request.tool_choice,
    parallelToolCalls: request.parallel_tool_calls,
    format: request.text.format,
    formatParam: "text.format",
    choices: 1,
    maxTokens: request.max_output_tokens,
    sampling: request,
    logprobs: hasLogprobs ? (request.top_logprobs ?? 0) : undefined,
    stop: [],
    ignoreEos: false,
  };
}
