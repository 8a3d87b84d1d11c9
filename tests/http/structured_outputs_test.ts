/** Constrained answers of a real model: whatever it would rather say, what comes has the asked shape. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import { generateObject, generateText, tool } from "ai";
import OpenAI, { APIError } from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { itShared, sharedPath } from "../shared.ts";
import { RUNTIMES, runApiq, startServerProcess } from "./server_process.ts";

const CITY = z.object({ city: z.enum(["Paris", "Rome"]), capital: z.boolean() });
const WEATHER = z.object({ city: z.enum(["Paris", "Rome"]) });
const ASK = [{ role: "user" as const, content: "What is the weather like in Paris?" }];

describe("structured outputs of a real model", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-structured-"));
  const dir = join(folder, "SmolLM2");
  let imported: ReturnType<typeof runApiq> | undefined;

  const importModel = async () => {
    const gguf = sharedPath("models/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    imported ??= runApiq("bun", ["import", gguf, "--out", dir]);
    assertEquals((await imported).code, 0);
  };

  afterAll(() => rmSync(folder, { recursive: true }));

  for (const runtime of RUNTIMES) {
    itShared(`follow schemas and tools under ${runtime}`, async () => {
      await importModel();
      const server = await startServerProcess(runtime, ["--model", dir]);
      try {
        const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
        const request = { model: "SmolLM2", messages: ASK, seed: 1, max_tokens: 200 };
        const parsed = await client.chat.completions.parse({
          ...request,
          response_format: zodResponseFormat(CITY, "city"),
        });
        CITY.parse(parsed.choices[0]?.message.parsed);
        assertEquals(parsed.choices[0]?.finish_reason, "stop");

        const called = await client.chat.completions.parse({
          ...request,
          tools: [zodFunction({ name: "get_weather", parameters: WEATHER })],
          tool_choice: "required",
          parallel_tool_calls: false,
        });
        const [call] = called.choices[0]?.message.tool_calls ?? [];
        assertEquals([called.choices[0]?.finish_reason, call?.function.name], ["tool_calls", "get_weather"]);
        WEATHER.parse(call?.function.parsed_arguments);

        const response = await client.responses.create({
          model: "SmolLM2",
          input: ASK,
          max_output_tokens: 200,
          text: { format: { type: "json_schema", name: "city", strict: true, schema: z.toJSONSchema(CITY) } },
        });
        CITY.parse(JSON.parse(response.output_text));

        const model = createOpenAICompatible({
          name: "apiq",
          baseURL: `${server.url}/v1`,
          supportsStructuredOutputs: true,
        })("SmolLM2");
        CITY.parse((await generateObject({ model, schema: CITY, messages: ASK, maxOutputTokens: 200 })).object);
        const { toolCalls } = await generateText({
          model,
          messages: ASK,
          tools: { get_weather: tool({ inputSchema: WEATHER }) },
          toolChoice: { type: "tool", toolName: "get_weather" },
          maxOutputTokens: 200,
        });
        assertEquals(toolCalls[0]?.toolName, "get_weather");

        // One that cannot be compiled costs only its own request.
        const broken = { type: "string", pattern: "((" };
        const error = await assertRejects(
          () =>
            client.chat.completions.create({
              ...request,
              response_format: { type: "json_schema", json_schema: { name: "x", schema: broken, strict: true } },
            }),
          APIError,
        );
        assertEquals(error.status, 400);
        assertMatch(error.message, /parenthes/);
        const plain = await client.chat.completions.create({ ...request, max_tokens: 3 });
        assert(plain.choices[0]?.message.content);
      } finally {
        await server.stop();
      }
    });
  }
});
