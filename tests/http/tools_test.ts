/** Tools and structured outputs of the real server process, through the openai package, with a fake engine behind it. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import OpenAI, { APIError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";

const ADD: OpenAI.ChatCompletionFunctionTool = {
  type: "function",
  function: {
    name: "add",
    description: "Adds two numbers.",
    parameters: {
      type: "object",
      properties: { a: { type: "number" }, b: { type: "number" } },
      required: ["a", "b"],
      additionalProperties: false,
    },
    strict: true,
  },
};

for (const runtime of RUNTIMES) {
  describe(`tools under ${runtime}`, () => {
    let server: ServerProcess;
    let client: OpenAI;
    const model = createFakeModel();

    beforeAll(async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, args);
      client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
    });

    const request = <More extends object>(content: string, more?: More) => ({
      model: "fake",
      messages: [{ role: "user" as const, content }],
      ...(more as More),
    });
    const grammarOf = async (more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming>) => {
      const { choices } = await client.chat.completions.create(request("grammar", more));
      return JSON.parse(choices[0]?.message.content ?? "");
    };

    it("gives calls as OpenAI does", async () => {
      const { choices } = await client.chat.completions.create(request('call add {"a": 1, "b": 2}', { tools: [ADD] }));
      assertEquals(choices[0]?.finish_reason, "tool_calls");
      assertEquals(choices[0]?.message.content, "Well,");
      const [call] = choices[0]?.message.tool_calls ?? [];
      assert(call?.type === "function");
      assertMatch(call.id, /^call_/);
      assertEquals(call.function, { name: "add", arguments: '{"a": 1, "b": 2}' });
    });

    it("streams a call's name first and its arguments as they come", async () => {
      const stream = await client.chat.completions.create({
        ...request('call add {"a": 1}', { tools: [ADD] }),
        stream: true,
      });
      const choices = (await Array.fromAsync(stream)).flatMap((chunk) => chunk.choices);
      const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
      assertEquals([calls[0]?.index, calls[0]?.type, calls[0]?.function?.name], [0, "function", "add"]);
      assert(calls.length > 3);
      assertEquals(calls.map((call) => call.function?.arguments ?? "").join(""), '{"a": 1}');
      assertEquals(choices.map(({ delta }) => delta.content ?? "").join(""), "Well,");
      assertEquals(choices.at(-1)?.finish_reason, "tool_calls");
    });

    it("works with the SDK's tool runner, streaming or not", async () => {
      const seen: unknown[] = [];
      const add = {
        type: "function" as const,
        function: {
          name: "add",
          description: "Adds two numbers.",
          parameters: ADD.function.parameters ?? {},
          parse: JSON.parse,
          function: ({ a, b }: { a: number; b: number }) => {
            seen.push([a, b]);
            return `${a + b}`;
          },
        },
      };
      const runner = client.chat.completions.runTools({ ...request('call add {"a": 1, "b": 2}'), tools: [add] });
      // The description of the tools, the question, the call and its result.
      assertEquals(await runner.finalContent(), "4 messages");
      const streamed = client.chat.completions.runTools({
        ...request('call add {"a": 3, "b": 4}'),
        tools: [add],
        stream: true,
      });
      assertEquals(await streamed.finalContent(), "4 messages");
      assertEquals(seen, [
        [1, 2],
        [3, 4],
      ]);
    });

    it("leaves text alone without tools, or when none may be called", async () => {
      const text = 'call add {"a": 1}';
      for (const more of [{}, { tools: [ADD], tool_choice: "none" as const }]) {
        const { choices } = await client.chat.completions.create(request(text, more));
        assertEquals(choices[0]?.finish_reason, "stop");
        assertEquals(
          choices[0]?.message.content,
          'Well,\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        );
      }
    });

    it("constrains the answer as the request says", async () => {
      const schema = { type: "object", properties: { a: { type: "number" } } };
      assertEquals(await grammarOf({}), null);
      assertEquals(await grammarOf({ tools: [ADD], tool_choice: "none" }), null);
      assertEquals(await grammarOf({ response_format: { type: "json_object" } }), { type: "json_object" });
      assertEquals(
        await grammarOf({ response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } } }),
        { type: "json_schema", schema: JSON.stringify(schema), strict: true },
      );
      const auto = await grammarOf({ tools: [ADD] });
      assertEquals(
        [auto.type, auto.format.type, auto.format.stop_after_first],
        ["structural_tag", "triggered_tags", false],
      );
      const single = await grammarOf({ tools: [ADD], parallel_tool_calls: false });
      assertEquals(single.format.stop_after_first, true);
      for (const tool_choice of ["required", { type: "function", function: { name: "add" } }] as const) {
        const forced = await grammarOf({ tools: [ADD], tool_choice });
        assertEquals([forced.format.type, forced.format.at_least_one], ["tags_with_separator", true]);
      }
      const either = await grammarOf({ tools: [ADD], response_format: { type: "json_object" } });
      assertEquals([either.format.type, either.format.elements.length], ["or", 2]);
    });

    it("refuses with a status, not within a stream, what the engine finds wrong with a grammar", async () => {
      const refused = request("refuse", { response_format: { type: "json_object" as const }, stream: true as const });
      const error = await assertRejects(() => client.chat.completions.create(refused), APIError);
      assertEquals(error.status, 400);
      const { choices } = await client.chat.completions.create(
        request("say {}", { response_format: { type: "json_object" as const } }),
      );
      assertEquals(choices[0]?.message.content, "{}");
    });

    it("gives structured outputs that the SDK parses", async () => {
      const format = zodResponseFormat(z.object({ city: z.string(), people: z.number() }), "city");
      const completion = await client.chat.completions.parse({
        ...request('say {"city": "Paris", "people": 2e6}'),
        response_format: format,
      });
      assertEquals(completion.choices[0]?.message.parsed, { city: "Paris", people: 2e6 });
      const stream = client.chat.completions.stream({
        ...request('say {"city": "Oslo", "people": 7}'),
        response_format: format,
      });
      assertEquals((await stream.finalChatCompletion()).choices[0]?.message.parsed, { city: "Oslo", people: 7 });
      assertEquals((await grammarOf({ response_format: format })).type, "json_schema");
    });
  });
}
