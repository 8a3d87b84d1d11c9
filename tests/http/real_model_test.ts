/** The whole path with a real model: import a GGUF file, serve it, ask the openai package's question. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import OpenAI from "openai";
import { itShared, sharedPath } from "../shared.ts";
import { RUNTIMES, runApiq, startServerProcess } from "./server_process.ts";

const QUESTION = "What is the capital of France?";
const MESSAGES = [{ role: "user" as const, content: QUESTION }];

describe("a model imported from GGUF", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-real-model-"));
  const dir = join(folder, "SmolLM2");
  let imported: ReturnType<typeof runApiq> | undefined;

  /** Once for all tests, and only if one of them is not skipped. */
  const importModel = async () => {
    const gguf = sharedPath("models/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    imported ??= runApiq("bun", ["import", gguf, "--out", dir]);
    const { code, stderr } = await imported;
    assertEquals({ code, stderr }, { code: 0, stderr: "" });
  };

  afterAll(() => rmSync(folder, { recursive: true }));

  for (const runtime of RUNTIMES) {
    itShared(`knows the capital of France under ${runtime}`, async () => {
      await importModel();
      const server = await startServerProcess(runtime, ["--model", dir]);
      try {
        const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
        const request = { model: "SmolLM2", messages: MESSAGES, temperature: 0, max_tokens: 24 };
        const stream = await client.chat.completions.create({
          ...request,
          stream: true,
          stream_options: { include_usage: true },
        });
        let text = "";
        let usage: OpenAI.CompletionUsage | null | undefined;
        for await (const chunk of stream) {
          text += chunk.choices[0]?.delta.content ?? "";
          usage = chunk.usage;
        }
        assertStringIncludes(text, "Paris");
        assert(usage && usage.completion_tokens > 0 && usage.prompt_tokens > MESSAGES.length);

        const whole = await client.chat.completions.create(request);
        assertEquals(whole.choices[0]?.message.content, text);
        assertEquals(whole.usage?.total_tokens, usage.total_tokens);
        const cached = [usage, whole.usage].map((usage) => usage?.prompt_tokens_details?.cached_tokens ?? 0);
        assert(cached[0] === 0 && cached[1]! > 0, `${cached} cached tokens of a prompt and of its repetition`);

        const seeded = { ...request, temperature: 1, seed: 7 };
        const [first, second] = await Promise.all([1, 2].map(() => client.chat.completions.create(seeded)));
        assertEquals(first?.choices[0]?.message.content, second?.choices[0]?.message.content);

        const several = await client.chat.completions.create({ ...seeded, n: 3 });
        assertEquals(several.choices[0]?.message.content, first?.choices[0]?.message.content);
        const next = await client.chat.completions.create({ ...seeded, seed: 9 });
        assertEquals(several.choices[2]?.message.content, next.choices[0]?.message.content);

        const response = await client.responses.create({
          model: "SmolLM2",
          input: QUESTION,
          temperature: 0,
          max_output_tokens: 24,
        });
        assertEquals(response.output_text, text);

        // The same conversation as token ids, through the route that knows no conversations.
        const tokenized = await fetch(`${server.url}/tokenize`, {
          method: "POST",
          body: JSON.stringify({ messages: MESSAGES }),
        });
        const { tokens, count } = (await tokenized.json()) as { tokens: number[]; count: number };
        assertEquals(count, usage.prompt_tokens);
        const completion = await client.completions.create({
          model: "SmolLM2",
          prompt: tokens,
          temperature: 0,
          max_tokens: 24,
        });
        assertEquals(completion.choices[0]?.text, text);
        const metrics = await (await fetch(`${server.url}/metrics`)).text();
        const hits = /prefix_cache_hits_total\{[^}]*\} (\d+)/.exec(metrics)?.[1];
        assert(Number(hits) > 0, "the prefix cache was of no use");
      } finally {
        await server.stop();
      }
    });

    itShared(`answers a piped question in apiq chat under ${runtime}`, async () => {
      await importModel();
      const args = ["chat", "--model", dir, "--temperature", "0", "--max-tokens", "24"];
      const { code, stdout, stderr } = await runApiq(runtime, args, { input: QUESTION });
      assertEquals({ code, stderr }, { code: 0, stderr: "" });
      assertStringIncludes(stdout, "Paris");
    });
  }
});
