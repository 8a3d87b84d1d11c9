/** POST /v1/responses of the real server process, through the openai package, with a fake engine behind it. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type OpenAI from "openai";
import { APIError } from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { useFakeServer } from "./fake_server.ts";
import { RUNTIMES } from "./server_process.ts";
import { until } from "./until.ts";

const ADD: OpenAI.Responses.FunctionTool = {
  type: "function",
  name: "add",
  parameters: { type: "object", properties: { a: { type: "number" } }, required: ["a"], additionalProperties: false },
  strict: true,
};

/** The package's own types of items do not quite allow what its documentation does with them. */
function sentBack(output: readonly OpenAI.Responses.ResponseOutputItem[]): OpenAI.Responses.ResponseInputItem[] {
  return output as OpenAI.Responses.ResponseInputItem[];
}

for (const runtime of RUNTIMES) {
  describe(`responses under ${runtime}`, () => {
    const server = useFakeServer(runtime, ["--context", "3000"]);

    const ask = (
      input: OpenAI.Responses.ResponseCreateParams["input"],
      more: Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming> = {},
    ) => server.client.responses.create({ model: "fake", input, ...more });

    it("answers a text", async () => {
      const response = await ask("say añ😀", { metadata: { a: "b" } });
      assertMatch(response.id, /^resp_/);
      assertEquals([response.object, response.status, response.output_text], ["response", "completed", "añ😀"]);
      assertEquals([response.model, response.metadata, response.error], ["fake", { a: "b" }, null]);
      const [item] = response.output;
      assert(item?.type === "message");
      assertEquals([item.role, item.status], ["assistant", "completed"]);
      assertEquals(response.usage?.output_tokens, 8);
      assertEquals(response.usage?.total_tokens, 8 + (response.usage?.input_tokens ?? 0));
    });

    it("sees instructions and a conversation of items, its own among them", async () => {
      const first = await ask("say hello");
      const second = await ask(
        [
          { role: "user", content: "say hello" },
          ...sentBack(first.output),
          { role: "user", content: [{ type: "input_text", text: "count" }] },
        ],
        { instructions: "Be brief." },
      );
      assertEquals(second.output_text, "4 messages");
    });

    it("is incomplete at max_output_tokens", async () => {
      const response = await ask("forever", { max_output_tokens: 4 });
      assertEquals([response.status, response.output_text], ["incomplete", "xxxx"]);
      assertEquals(response.incomplete_details, { reason: "max_output_tokens" });
    });

    it("streams OpenAI's events in OpenAI's order", async () => {
      const events = await Array.fromAsync(
        await server.client.responses.create({ model: "fake", input: "say hi", stream: true }),
      );
      assertEquals(
        events.map(({ type }) => type),
        [
          "response.created",
          "response.in_progress",
          "response.output_item.added",
          "response.content_part.added",
          "response.output_text.delta",
          "response.output_text.delta",
          "response.output_text.done",
          "response.content_part.done",
          "response.output_item.done",
          "response.completed",
        ],
      );
      assertEquals(
        events.map(({ sequence_number }) => sequence_number),
        events.map((_, index) => index),
      );
      const last = events.at(-1);
      assert(last?.type === "response.completed");
      assertEquals(last.response.usage?.output_tokens, 3);
    });

    it("sends what the SDK's stream helper puts together", async () => {
      const response = await server.client.responses.stream({ model: "fake", input: "say helper" }).finalResponse();
      assertEquals(response.output_text, "helper");
    });

    it("calls functions and takes their results", async () => {
      const response = await ask('call add {"a": 1}', { tools: [ADD] });
      const [text, call] = response.output;
      assertEquals([text?.type, call?.type, response.output.length], ["message", "function_call", 2]);
      assert(call?.type === "function_call");
      assertEquals([call.name, call.arguments, call.status], ["add", '{"a": 1}', "completed"]);
      assertMatch(call.call_id, /^call_/);
      const answer = await ask(
        [
          { role: "user", content: 'call add {"a": 1}' },
          ...sentBack(response.output),
          { type: "function_call_output", call_id: call.call_id, output: "2" },
        ],
        { tools: [ADD] },
      );
      // The description of the tools, the question, text and call as one message, and the result.
      assertEquals(answer.output_text, "4 messages");
    });

    it("streams a call's arguments", async () => {
      const stream = server.client.responses.stream({ model: "fake", input: 'call add {"a": 1}', tools: [ADD] });
      const deltas: string[] = [];
      stream.on("response.function_call_arguments.delta", ({ delta }) => deltas.push(delta));
      const response = await stream.finalResponse();
      assertEquals(deltas.join(""), '{"a": 1}');
      assertEquals(
        response.output.map(({ type }) => type),
        ["message", "function_call"],
      );
    });

    it("gives structured outputs that the SDK parses", async () => {
      const format = zodTextFormat(z.object({ city: z.string() }), "city");
      const response = await server.client.responses.parse({
        model: "fake",
        input: 'say {"city": "Paris"}',
        text: { format },
      });
      assertEquals(response.output_parsed, { city: "Paris" });
      const grammar = JSON.parse((await ask("grammar", { text: { format } })).output_text);
      assertEquals([grammar.type, grammar.strict], ["json_schema", true]);
    });

    it("reports log-probabilities", async () => {
      const response = await ask("say ab", { include: ["message.output_text.logprobs"], top_logprobs: 1 });
      const [item] = response.output;
      assert(item?.type === "message" && item.content[0]?.type === "output_text");
      assertEquals(
        item.content[0].logprobs?.map(({ token, logprob }) => [token, logprob]),
        [
          ["a", -0.5],
          ["b", -0.5],
        ],
      );
    });

    it("ends a stream with an error and a failed response when the engine dies", async () => {
      const events = await Array.fromAsync(
        await server.client.responses.create({ model: "fake", input: "die", stream: true }),
      );
      assertEquals(
        events.slice(-2).map(({ type }) => type),
        ["error", "response.failed"],
      );
      await until(async () => (await fetch(`${server.url}/ready`)).status === 200, "the engine is back");
    });

    it("refuses by name what it does not honour", async () => {
      for (const [fields, param, message] of [
        [{ store: true }, "store", "store true is not supported"],
        [{ previous_response_id: "resp_1" }, "previous_response_id", "not supported"],
        [{ conversation: "conv_1" }, "conversation", "not supported"],
        [{ background: true }, "background", "not supported"],
        [{ truncation: "auto" }, "truncation", "not supported"],
        [{ reasoning: { effort: "low" } }, "reasoning", "not supported"],
        [{ tools: [{ type: "web_search" }] }, "tools.0.type", 'received "web_search"'],
        [{ include: ["reasoning.encrypted_content"] }, "include.0", "reasoning.encrypted_content"],
        [{ text: { verbosity: "low" } }, "text.verbosity", "Unknown parameter"],
        [{ top_logprobs: 2 }, "top_logprobs", "in include"],
        [{ max_output_tokens: 3000 }, "input", "context holds 3000 tokens"],
        [{ temprature: 1 }, "temprature", "did you mean temperature?"],
      ] as const) {
        const body = { model: "fake", input: "say x", ...fields } as OpenAI.Responses.ResponseCreateParamsNonStreaming;
        const error = await assertRejects(() => server.client.responses.create(body), APIError);
        assertEquals([error.status, error.param], [400, param]);
        assertStringIncludes(error.message, message);
      }
      assertEquals((await ask("say x", { store: false })).status, "completed");
    });
  });
}
