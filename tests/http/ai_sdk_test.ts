/** The `ai` package with @ai-sdk/openai-compatible against the real server process, with a fake engine behind it. */
import { createOpenAICompatible, type OpenAICompatibleProvider } from "@ai-sdk/openai-compatible";
import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";

for (const runtime of RUNTIMES) {
  describe(`the ai package under ${runtime}`, () => {
    let server: ServerProcess;
    let provider: OpenAICompatibleProvider;
    const fake = createFakeModel();

    beforeAll(async () => {
      const args = ["--model", fake.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, args);
      provider = createOpenAICompatible({
        name: "apiq",
        baseURL: `${server.url}/v1`,
        includeUsage: true,
        supportsStructuredOutputs: true,
      });
    });
    afterAll(async () => {
      await server?.stop();
      fake.remove();
    });

    const add = () =>
      tool({
        description: "Adds two numbers.",
        inputSchema: z.object({ a: z.number(), b: z.number() }),
        execute: async ({ a, b }) => a + b,
      });

    it("streams text with usage", async () => {
      const result = streamText({ model: provider("fake"), system: "Be brief.", prompt: "say Grüße 😀" });
      assertEquals((await Array.fromAsync(result.textStream)).join(""), "Grüße 😀");
      assertEquals([await result.finishReason, (await result.usage).outputTokens], ["stop", 13]);
    });

    it("generates and streams objects", async () => {
      const schema = z.object({ city: z.string(), people: z.number() });
      const request = { model: provider("fake"), schema, prompt: 'say {"city": "Paris", "people": 2}' };
      assertEquals((await generateObject(request)).object, { city: "Paris", people: 2 });
      const partial = await Array.fromAsync(streamObject(request).partialObjectStream);
      assertEquals([partial.length > 1, partial.at(-1)], [true, { city: "Paris", people: 2 }]);
    });

    it("runs tools, streaming or not", async () => {
      const request = {
        model: provider("fake"),
        prompt: 'call add {"a": 1, "b": 2}',
        tools: { add: add() },
        stopWhen: stepCountIs(2),
      };
      const { steps, text } = await generateText(request);
      assertEquals(
        steps[0]?.toolResults.map(({ output }) => output),
        [3],
      );
      assertEquals(text, "4 messages");
      const streamed = streamText(request);
      assertEquals(await streamed.text, "4 messages");
      assertEquals((await streamed.steps)[0]?.toolResults.length, 1);
    });

    it("completes plain prompts", async () => {
      const { text } = await generateText({ model: provider.completionModel("fake"), prompt: "say ignored" });
      // The package writes a prompt of its own around the user's.
      assertEquals(text.length > 0, true);
    });
  });
}
