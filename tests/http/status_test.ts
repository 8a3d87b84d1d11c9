/** What the real server process tells about itself: /ready, /metrics, request ids, a full queue. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import OpenAI from "openai";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

for (const runtime of RUNTIMES) {
  describe(`status under ${runtime}`, () => {
    let server: ServerProcess;
    const model = createFakeModel();

    beforeAll(async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, [...args, "--max-sequences", "2", "--max-queue", "1"]);
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
    });

    const chat = (content: string, more: object = {}, init: RequestInit = {}) =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model: "fake", messages: [{ role: "user", content }], ...more }),
        ...init,
      });
    const metrics = async () => await (await fetch(`${server.url}/metrics`)).text();

    it("asks for a key where it was given keys, except by those who only look after it", async () => {
      const folder = mkdtempSync(join(tmpdir(), "apiq-keys-"));
      const key = "a-key-of-some-length";
      writeFileSync(join(folder, "keys"), `${key}\n`);
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      const locked = await startServerProcess(runtime, [...args, "--api-key-file", join(folder, "keys")]);
      try {
        const ask = (apiKey: string) =>
          new OpenAI({ baseURL: `${locked.url}/v1`, apiKey, maxRetries: 0 }).chat.completions.create({
            model: "fake",
            messages: [{ role: "user", content: "say hi" }],
          });
        const error = (await assertRejects(() => ask("a-key-of-other-length"), OpenAI.AuthenticationError)) as {
          status?: number;
          code?: string;
        };
        assertEquals([error.status, error.code], [401, "invalid_api_key"]);
        assertEquals((await ask(key)).choices.length, 1);
        const statuses = ["/v1/models", "/health", "/ready", "/metrics"].map(
          async (path) => (await fetch(`${locked.url}${path}`)).status,
        );
        assertEquals(await Promise.all(statuses), [401, 200, 200, 200]);
      } finally {
        await locked.stop();
        rmSync(folder, { recursive: true });
      }
    });

    it("is ready only with a model that answers", async () => {
      const ready = await fetch(`${server.url}/ready`);
      assertEquals([ready.status, await ready.json()], [200, { status: "ready" }]);
      const empty = await startServerProcess(runtime, []);
      try {
        const unready = await fetch(`${empty.url}/ready`);
        assertEquals([unready.status, await unready.json()], [503, { status: "no_model" }]);
        const refused = await fetch(`${empty.url}/v1/completions`, { method: "POST", body: "{}" });
        assertEquals([refused.status, refused.headers.get("x-should-retry")], [503, "false"]);
        assertEquals((await fetch(`${empty.url}/metrics`)).status, 200);
      } finally {
        await empty.stop();
      }
    });

    it("gives every answer a request id, the client's own if it is sane", async () => {
      const id = async (given?: string, path = "/health") => {
        const headers: Record<string, string> = given === undefined ? {} : { "x-request-id": given };
        return (await fetch(`${server.url}${path}`, { headers })).headers.get("x-request-id");
      };
      assertEquals(await id("trace-1.a:b"), "trace-1.a:b");
      assertEquals(await id("mine", "/nowhere"), "mine");
      assertMatch((await id()) ?? "", /^req_[0-9a-f-]{36}$/);
      assertMatch((await id("no spaces allowed")) ?? "", /^req_/);
      assertMatch((await id("x".repeat(129))) ?? "", /^req_/);
      assertMatch((await chat("say x", { stream: true })).headers.get("x-request-id") ?? "", /^req_/);
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none" });
      const answer = await client.chat.completions.create(
        { model: "fake", messages: [{ role: "user", content: "say x" }] },
        { headers: { "x-request-id": "from-sdk" } },
      );
      assertEquals(answer._request_id, "from-sdk");
    });

    it("turns requests away when the queue is full, and says when to come back", async () => {
      const gone = new AbortController();
      const running = await Promise.all(
        [1, 2, 3].map(() => chat("forever", { stream: true }, { signal: gone.signal })),
      );
      assertEquals(
        running.map(({ status }) => status),
        [200, 200, 200],
      );
      const refused = await chat("say x");
      assertEquals([refused.status, refused.headers.get("retry-after")], [429, "2"]);
      const { error } = (await refused.json()) as { error: { code: string; type: string; message: string } };
      assertEquals([error.code, error.type], ["rate_limit_exceeded", "rate_limit_error"]);
      assertStringIncludes(error.message, "--max-queue");
      assertEquals((await fetch(`${server.url}/v1/models`)).status, 200);

      // The SDK waits and tries again by itself.
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 3 });
      const retried = client.chat.completions.create({
        model: "fake",
        messages: [{ role: "user", content: "say later" }],
      });
      setTimeout(() => gone.abort(), 100);
      assertEquals((await retried).choices[0]?.message.content, "later");
    });

    it("reports metrics as vLLM names them", async () => {
      await (await chat("say abcdefgh")).json();
      const response = await fetch(`${server.url}/metrics`);
      assertMatch(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
      const text = await response.text();
      for (const name of [
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "prompt_tokens_total",
        "generation_tokens_total",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
        'request_success_total{model_name="fake",finished_reason="stop"}',
        "time_to_first_token_seconds_bucket",
        "inter_token_latency_seconds_sum",
        "e2e_request_latency_seconds_count",
      ]) {
        assertStringIncludes(text, `vllm:${name}`);
      }
      for (const line of text.trim().split("\n")) {
        assertMatch(line, /^(# (HELP|TYPE) [a-z0-9_:]+ .+|[a-z0-9_:]+\{.*\} [0-9.e+-]+)$/);
      }
      const generated = (from: string) =>
        Number(/generation_tokens_total\{model_name="fake"\} (\d+)/.exec(from)?.[1] ?? Number.NaN);
      await (await chat("say abcdefgh")).json();
      assertEquals(generated(await metrics()) - generated(text), 9);
    });

    it("counts a client that went away", async () => {
      const aborted = (text: string) => Number(/finished_reason="abort"\} (\d+)/.exec(text)?.[1] ?? Number.NaN);
      const before = aborted(await metrics());
      const gone = new AbortController();
      await chat("forever", { stream: true }, { signal: gone.signal });
      gone.abort();
      await until(async () => aborted(await metrics()) === before + 1, "the abort is counted");
    });
  });
}
