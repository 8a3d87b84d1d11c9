/** POST /v1/chat/completions */
import type { Context } from "hono";
import { readJson } from "../body.ts";
import { type ChatGeneration, startConversation } from "../conversation.ts";
import { invalidRequest } from "../errors.ts";
import { chatEvents, chatObject } from "../objects/chat_objects.ts";
import { type ChatRequest, chatRequest } from "../schemas/chat.ts";
import { parseRequest } from "../schemas/check.ts";
import { requireServed, type Service } from "../service.ts";
import { respond } from "./respond.ts";

export async function postChatCompletions(c: Context, service: Service): Promise<Response> {
  const { tokenizer } = requireServed(service);
  const request = parseRequest(chatRequest, await readJson(c));
  return await respond(c, service, request.stream, async (signal) => {
    const generation = await startChat(service, request, signal);
    const includeUsage = request.stream_options?.include_usage === true;
    return {
      whole: () => chatObject(generation, tokenizer),
      events: () => chatEvents(generation, includeUsage, tokenizer),
    };
  });
}

function startChat(service: Service, request: ChatRequest, signal: AbortSignal): Promise<ChatGeneration> {
  if (request.top_logprobs !== undefined && !request.logprobs) {
    throw invalidRequest("Cannot use top_logprobs: it needs logprobs to be true", "top_logprobs");
  }
  return startConversation(
    service,
    {
      idPrefix: "chatcmpl-",
      model: request.model,
      messages: request.messages,
      messagesParam: "messages",
      tools: request.tools,
      toolChoice: request.tool_choice,
      parallelToolCalls: request.parallel_tool_calls,
      format: request.response_format,
      formatParam: "response_format",
      choices: request.n,
      maxTokens: request.max_completion_tokens ?? request.max_tokens,
      sampling: request,
      logprobs: request.logprobs ? (request.top_logprobs ?? 0) : undefined,
      stop: request.stop,
      ignoreEos: request.ignore_eos,
    },
    signal,
  );
}
