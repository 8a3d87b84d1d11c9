/** POST /v1/completions, several choices, /tokenize and /detokenize of the real server process, with a fake engine behind it. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type OpenAI from "openai";
import { APIError } from "openai";
import { MESSAGE_END, MESSAGE_START } from "./fake_model.ts";
import { useFakeServer } from "./fake_server.ts";
import { RUNTIMES } from "./server_process.ts";
import { until } from "./until.ts";

/** What a request took when nothing of its prompt was in the cache. */
const usage = (prompt: number, completion: number) => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
  prompt_tokens_details: { cached_tokens: 0 },
});

for (const runtime of RUNTIMES) {
  describe(`completions under ${runtime}`, () => {
    const server = useFakeServer(runtime, ["--context", "3000"]);

    const complete = (prompt: OpenAI.CompletionCreateParams["prompt"], more: object = {}) =>
      server.client.completions.create({ model: "fake", prompt, max_tokens: 100, ...more });
    const post = async (path: string, body: object) => {
      const response = await fetch(`${server.url}${path}`, { method: "POST", body: JSON.stringify(body) });
      return { status: response.status, body: await response.json() };
    };
    const bytes = (text: string) => [...new TextEncoder().encode(text)];

    it("continues a text, several texts, token ids and several lists of them", async () => {
      const one = await complete("say añ");
      assertMatch(one.id, /^cmpl-/);
      assertEquals(one.object, "text_completion");
      assertEquals(one.choices, [{ index: 0, text: "añ", logprobs: null, finish_reason: "stop" }]);
      assertEquals(one.usage, usage(7, 4));
      const texts = async (prompt: OpenAI.CompletionCreateParams["prompt"], more: object = {}) =>
        (await complete(prompt, more)).choices.map(({ index, text }) => [index, text]);
      const two = [
        [0, "b"],
        [1, "cd"],
      ];
      assertEquals(await texts(["say b", "say cd"]), two);
      assertEquals(await texts(bytes("say b")), [[0, "b"]]);
      assertEquals(await texts([bytes("say b"), bytes("say cd")]), two);
    });

    it("has OpenAI's default of 16 tokens, and answers as long as asked with ignore_eos", async () => {
      const { choices } = await server.client.completions.create({ model: "fake", prompt: "forever" });
      assertEquals([choices[0]?.text, choices[0]?.finish_reason], ["x".repeat(16), "length"]);
      const longer = await complete("say ab", { ignore_eos: true, max_tokens: 5 });
      assertEquals([longer.usage?.completion_tokens, longer.choices[0]?.finish_reason], [5, "length"]);
    });

    it("echoes prompts, also without an answer", async () => {
      assertEquals((await complete("say hi", { echo: true })).choices[0]?.text, "say hihi");
      const none = await complete(["say hi", "x"], { echo: true, max_tokens: 0 });
      assertEquals(
        none.choices.map(({ text, finish_reason }) => [text, finish_reason]),
        [
          ["say hi", "length"],
          ["x", "length"],
        ],
      );
      assertEquals(none.usage?.completion_tokens, 0);
      const chunks = await Array.fromAsync(
        await server.client.completions.create({ model: "fake", prompt: "say hi", echo: true, stream: true }),
      );
      const texts = chunks.map(({ choices }) => choices[0]?.text);
      assertEquals([texts[0], texts.join("")], ["say hi", "say hihi"]);
    });

    it("streams several choices side by side, with usage", async () => {
      const chunks = await Array.fromAsync(
        await server.client.completions.create({
          model: "fake",
          prompt: ["say abc", "slow de"],
          n: 2,
          stream: true,
          stream_options: { include_usage: true },
        }),
      );
      const texts = ["", "", "", ""];
      const finishes: string[] = [];
      for (const choice of chunks.flatMap(({ choices }) => choices)) {
        texts[choice.index] += choice.text;
        if (choice.finish_reason) finishes[choice.index] = choice.finish_reason;
      }
      assertEquals(texts, ["abc", "abc", "de", "de"]);
      assertEquals(finishes, ["stop", "stop", "stop", "stop"]);
      assertEquals(chunks.at(-1)?.usage, usage(14, 14));
    });

    it("draws each choice with a seed of its own", async () => {
      const { choices } = await server.client.chat.completions.create({
        model: "fake",
        messages: [{ role: "user", content: "params" }],
        n: 3,
        seed: 5,
      });
      assertEquals(
        choices.map(({ index, message }) => [index, JSON.parse(message.content ?? "").seed]),
        [
          [0, "5"],
          [1, "6"],
          [2, "7"],
        ],
      );
    });

    it("streams several choices of a chat, each with its role and its finish reason", async () => {
      const stream = server.client.chat.completions.stream({
        model: "fake",
        messages: [{ role: "user", content: "say xyz" }],
        n: 2,
      });
      const final = await stream.finalChatCompletion();
      assertEquals(
        final.choices.map(({ message, finish_reason }) => [message.role, message.content, finish_reason]),
        [
          ["assistant", "xyz", "stop"],
          ["assistant", "xyz", "stop"],
        ],
      );
    });

    it("ends all choices when the client goes away", async () => {
      const stream = await server.client.chat.completions.create({
        model: "fake",
        messages: [{ role: "user", content: "forever" }],
        n: 4,
        stream: true,
      });
      const seen = new Set<number>();
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content) seen.add(chunk.choices[0].index);
        if (seen.size === 4) break;
      }
      const running = async () => {
        const health = (await (await fetch(`${server.url}/health`)).json()) as { stats: { running: number } };
        return health.stats.running;
      };
      await until(async () => (await running()) === 0, "all choices are gone from the engine");
    });

    it("reports log-probabilities in the older shape", async () => {
      const { choices } = await complete("say abc", { logprobs: 2 });
      assertEquals(choices[0]?.logprobs, {
        tokens: ["a", "b", "c"],
        token_logprobs: [-0.5, -0.5, -0.5],
        top_logprobs: [
          { a: -0.5, b: -1.5 },
          { b: -0.5, c: -1.5 },
          { c: -0.5, d: -1.5 },
        ],
        text_offset: [0, 1, 2],
      });
    });

    it("refuses by name what it does not honour", async () => {
      for (const [fields, param, message] of [
        [{ suffix: "x" }, "suffix", "suffix is not supported"],
        [{ best_of: 2 }, "best_of", "best_of 2 is not supported"],
        [{ echo: true, logprobs: 1 }, "logprobs", "together with echo"],
        [{ max_tokens: 0 }, "max_tokens", "needs echo"],
        [{ prompt: "" }, "prompt", "no tokens"],
        [{ prompt: [9999] }, "prompt", "received token 9999"],
        [{ prompt: [1.5] }, "prompt.0", "received 1.5"],
        [{ prompt: "x".repeat(3001) }, "prompt", "context holds 3000 tokens"],
        [{ prompt: ["a", "b"], n: 100 }, "n", "at most 128 choices"],
        [{ logprobs: 6 }, "logprobs", "<=5"],
      ] as const) {
        const error = await assertRejects(() => complete("say x", fields), APIError);
        assertEquals([error.status, error.param], [400, param]);
        assertStringIncludes(error.message, message);
      }
      assertEquals((await complete("say x", { best_of: 1 })).choices.length, 1);
    });

    it("tokenizes texts and messages, and back", async () => {
      const text = await post("/tokenize", { model: "fake", prompt: "añ" });
      assertEquals(text, {
        status: 200,
        body: { count: 3, max_model_len: 3000, tokens: bytes("añ"), token_strs: null },
      });
      const messages = [{ role: "user", content: "hi" }];
      const chat = await post("/tokenize", { messages, return_token_strs: true });
      const { tokens, token_strs } = chat.body as { tokens: number[]; token_strs: string[] };
      assertEquals([tokens[0], tokens.indexOf(MESSAGE_END), tokens.lastIndexOf(MESSAGE_START)], [MESSAGE_START, 8, 9]);
      assertEquals(token_strs[0], "<|start|>");
      const without = await post("/tokenize", { messages, add_generation_prompt: false });
      assertEquals((without.body as { count: number }).count, 9);
      const back = await post("/detokenize", { model: "fake", tokens });
      assertEquals(back.body, { prompt: "<|start|>user\nhi<|end|><|start|>assistant\n" });
    });

    it("refuses to tokenize nothing, both, too much, or for another model", async () => {
      for (const [path, body, status] of [
        ["/tokenize", {}, 400],
        ["/tokenize", { prompt: "x", messages: [{ role: "user", content: "x" }] }, 400],
        ["/tokenize", { prompt: "x ".repeat(100_000) }, 400],
        ["/tokenize", { prompt: "x", model: "gpt-4" }, 404],
        ["/detokenize", { tokens: [9999] }, 400],
        ["/detokenize", { tokens: [-1] }, 400],
        ["/detokenize", { tokens: new Array<number>(3001).fill(65) }, 400],
      ] as const) {
        assertEquals((await post(path, body)).status, status);
      }
    });
  });
}
