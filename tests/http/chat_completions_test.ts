/** POST /v1/chat/completions of the real server process, asked by the openai package, with a fake engine behind it. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import OpenAI, { APIError } from "openai";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

for (const runtime of RUNTIMES) {
  describe(`chat completions under ${runtime}`, () => {
    let server: ServerProcess;
    let client: OpenAI;
    const model = createFakeModel({ temperature: 0.25, top_k: 7 });

    beforeAll(async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake", "--context", "5000"];
      server = await startServerProcess(runtime, args);
      client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
    });

    const ask = (content: string, more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) =>
      client.chat.completions.create({ model: "fake", messages: [{ role: "user", content }], ...more });
    const stream = (content: string, more: Partial<OpenAI.ChatCompletionCreateParamsStreaming> = {}) =>
      client.chat.completions.create({
        model: "fake",
        messages: [{ role: "user", content }],
        ...more,
        stream: true,
      });
    const stats = async () => {
      const health = (await (await fetch(`${server.url}/health`)).json()) as {
        stats: { running: number; steps: number };
      };
      return health.stats;
    };

    it("answers in one piece with usage", async () => {
      const completion = await ask("say Grüße, 世界 😀");
      assertMatch(completion.id, /^chatcmpl-/);
      assertEquals(completion.object, "chat.completion");
      assertEquals(completion.model, "fake");
      assertEquals(completion.choices[0]?.message, { role: "assistant", content: "Grüße, 世界 😀", refusal: null });
      assertEquals(completion.choices[0]?.finish_reason, "stop");
      const bytes = new TextEncoder().encode("Grüße, 世界 😀").length;
      assertEquals(completion.usage?.completion_tokens, bytes + 1);
      assertEquals(completion.usage?.total_tokens, (completion.usage?.prompt_tokens ?? 0) + bytes + 1);
    });

    it("streams the role, whole characters, the finish reason and the usage", async () => {
      const chunks = await Array.fromAsync(await stream("say añ😀", { stream_options: { include_usage: true } }));
      assertEquals(chunks[0]?.choices[0]?.delta, { role: "assistant", content: "", refusal: null });
      // Tokens that come together share a chunk, the bytes of a character always do.
      const contents = chunks.slice(1, -2).map((chunk) => chunk.choices[0]?.delta.content ?? "");
      assertEquals([contents.join(""), contents.some((text) => text === "" || !text.isWellFormed())], ["añ😀", false]);
      assert(!contents.join("").includes("\uFFFD"));
      assertEquals(chunks.at(-2)?.choices[0]?.finish_reason, "stop");
      assertEquals(chunks.at(-1)?.choices, []);
      assertEquals(chunks.at(-1)?.usage?.completion_tokens, 8);
      assert(chunks.slice(0, -1).every((chunk) => chunk.usage === null && chunk.id === chunks[0]?.id));
    });

    it("sends what the SDK's stream helper puts together", async () => {
      const helper = client.chat.completions.stream({
        model: "fake",
        messages: [{ role: "user", content: "say helper" }],
      });
      assertEquals(await helper.finalContent(), "helper");
    });

    it("sees the whole conversation, system and developer messages, and text parts", async () => {
      const completion = await client.chat.completions.create({
        model: "fake",
        messages: [
          { role: "developer", content: "Be brief." },
          { role: "user", content: "one" },
          { role: "assistant", content: "two", refusal: null },
          { role: "user", content: [{ type: "text", text: "three" }] },
        ],
      });
      assertEquals(completion.choices[0]?.message.content, "4 messages");
    });

    it("ends before a stop string, wherever its tokens are cut, streaming or not", async () => {
      const completion = await ask("say one, two, three", { stop: ["three", ", tw"] });
      assertEquals(completion.choices[0]?.message.content, "one");
      assertEquals(completion.choices[0]?.finish_reason, "stop");
      const chunks = await Array.fromAsync(await stream("say 12STO3STOP4", { stop: "STOP" }));
      assertEquals(textOf(chunks), "12STO3");
      assertEquals(textOf(await Array.fromAsync(await stream("say 12STO", { stop: "STOP" }))), "12STO");
      await until(async () => (await stats()).running === 0, "the stopped requests are gone from the engine");
    });

    it("ends at max_tokens with reason length, and without it at the end of the context", async () => {
      for (const limit of [{ max_tokens: 5 }, { max_completion_tokens: 5 }]) {
        const completion = await ask("forever", limit);
        assertEquals(completion.choices[0]?.message.content, "xxxxx");
        assertEquals(completion.choices[0]?.finish_reason, "length");
      }
      const { usage } = await ask("flood");
      assertEquals(usage?.total_tokens, 5000);
    });

    it("hands every sampling parameter to the engine, with defaults from generation_config.json", async () => {
      const plain = JSON.parse((await ask("params", { seed: -1 })).choices[0]?.message.content ?? "");
      assertEquals([plain.temperature, plain.topP, plain.topK, plain.seed], [0.25, 1, 7, "18446744073709551615"]);
      const { choices } = await ask("params", {
        temperature: 0.5,
        top_p: 0.9,
        seed: 42,
        presence_penalty: 1,
        frequency_penalty: -1,
        logit_bias: { "65": 5 },
        ...{ top_k: 3, min_p: 0.1, repetition_penalty: 1.5 },
      });
      const params = JSON.parse(choices[0]?.message.content ?? "");
      delete params.maxTokens;
      assertEquals(params, {
        temperature: 0.5,
        topP: 0.9,
        topK: 3,
        minP: 0.1,
        repetitionPenalty: 1.5,
        presencePenalty: 1,
        frequencyPenalty: -1,
        seed: "42",
        logitBias: [[65, 5]],
      });
    });

    it("reports log-probabilities", async () => {
      const { choices } = await ask("say hé", { logprobs: true, top_logprobs: 2 });
      const content = choices[0]?.logprobs?.content ?? [];
      assertEquals(content[0], {
        token: "h",
        logprob: -0.5,
        bytes: [104],
        top_logprobs: [
          { token: "h", logprob: -0.5, bytes: [104] },
          { token: "i", logprob: -1.5, bytes: [105] },
        ],
      });
      assertEquals(content.length, 3);
      assertEquals(content[1]?.bytes, null);
    });

    it("ends a request within a step when its client goes away, streaming or not", async () => {
      const chunks = await stream("forever");
      for await (const chunk of chunks) if (chunk.choices[0]?.delta.content) break;
      await until(async () => (await stats()).running === 0, "the left stream is gone from the engine");

      const controller = new AbortController();
      const whole = client.chat.completions.create(
        { model: "fake", messages: [{ role: "user", content: "slow and steady".repeat(100) }] },
        { signal: controller.signal },
      );
      const rejected = assertRejects(() => whole, Error);
      await until(async () => (await stats()).running === 1, "the request runs");
      controller.abort();
      await rejected;
      await until(async () => (await stats()).running === 0, "the left request is gone from the engine", 5000);
    });

    it("turns a death of the engine into an error of the request, and answers the next one", async () => {
      const error = await assertRejects(() => ask("die"), APIError);
      assertEquals([error.status, error.code], [503, "engine_restarting"]);
      await until(async () => (await fetch(`${server.url}/health`)).status === 200, "the engine is back");

      const chunks = await stream("die");
      await assertRejects(() => Array.fromAsync(chunks), APIError, "engine stopped");
      await until(async () => (await fetch(`${server.url}/health`)).status === 200, "the engine is back again");
      assertEquals((await ask("say alive")).choices[0]?.message.content, "alive");
    });

    it("reports what the engine refuses", async () => {
      const error = await assertRejects(() => ask("refuse"), APIError);
      assertEquals(error.status, 400);
    });
  });
}

function textOf(chunks: readonly OpenAI.ChatCompletionChunk[]): string {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
}
