/** What the real server process tells of its work: log lines, metrics, traces. */
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../http/fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "../http/server_process.ts";
import { until } from "../http/until.ts";
import { type Family, parsePrometheus } from "./prometheus.ts";

const SECRET = "a secret that nobody logs";

interface Span {
  name: string;
  traceId: string;
  parentSpanId?: string;
  kind: number;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: { stringValue?: string; intValue?: number; doubleValue?: number } }[];
  events?: { name: string }[];
  status?: { code?: number };
}

/** A collector's OTLP/HTTP endpoint, as far as receiving goes. */
async function startCollector(): Promise<{ server: Server; url: string; spans: Span[]; paths: Set<string> }> {
  const spans: Span[] = [];
  const paths = new Set<string>();
  const server = createServer(async (request: IncomingMessage, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    paths.add(request.url ?? "");
    const { resourceSpans } = JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] };
    spans.push(...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)));
    response.setHeader("content-type", "application/json").end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, paths };
}

for (const runtime of RUNTIMES) {
  describe(`what is told of requests under ${runtime}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "apiq-observe-"));
    let server: ServerProcess;
    let collector: Awaited<ReturnType<typeof startCollector>>;
    const model = createFakeModel();
    const fake = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];

    beforeAll(async () => {
      collector = await startCollector();
      const args = ["--log-format", "json", "--log-level", "debug", "--otlp-endpoint", collector.url];
      server = await startServerProcess(runtime, [...fake, ...args]);
    });
    afterAll(async () => {
      await server?.stop();
      collector?.server.close();
      model.remove();
      rmSync(folder, { recursive: true });
    });

    const chat = (to: ServerProcess, content: string, more: object = {}, headers: Record<string, string> = {}) =>
      fetch(`${to.url}/v1/chat/completions`, {
        method: "POST",
        headers,
        body: JSON.stringify({ model: "fake", messages: [{ role: "user", content }], ...more }),
      });
    const lines = (from: ServerProcess) =>
      from
        .output()
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Record<string, unknown>);
    const lineOf = async (from: ServerProcess, requestId: string, msg = "request") => {
      const find = () => lines(from).find((line) => line.requestId === requestId && line.msg === msg);
      await until(() => find() !== undefined, `there is a line of ${requestId}`);
      return find() ?? {};
    };
    const scrape = async () => parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
    const sampleValue = (families: Map<string, Family>, family: string, sample = family) =>
      families.get(family)?.samples.find(({ name }) => name === sample)?.value ?? Number.NaN;

    it("is a line for each, with its id and without its text", async () => {
      await (await chat(server, `say ${SECRET}`, { stream: true }, { "x-request-id": "streamed" })).text();
      const line = await lineOf(server, "streamed");
      assertEquals(
        [line.level, line.method, line.path, line.status, line.client, line.model, line.finish, line.generatedTokens],
        ["info", "POST", "/v1/chat/completions", 200, "anyone", "fake", "stop", SECRET.length + 1],
      );
      assert(Number(line.seconds) >= Number(line.firstTokenSeconds), JSON.stringify(line));
      assertMatch(String(line.time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      // What a refusal says of a field may be what the client wrote there.
      await chat(server, "x", { [SECRET]: SECRET, user: SECRET }, { "x-request-id": "refused" });
      const refused = await lineOf(server, "refused");
      assertEquals([refused.status, refused.error], [400, "unknown_parameter"]);
      await fetch(`${server.url}/ready`, { headers: { "x-request-id": "probe" } });
      assertEquals((await lineOf(server, "probe")).level, "debug");
      assertEquals(server.output().includes(SECRET), false);
    });

    it("is metrics that scrapers read, under vLLM's names", async () => {
      const before = await scrape();
      await (await chat(server, "say abcdefgh")).json();
      const after = await scrape();
      const names = [
        ...["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info"],
        ...["prefix_cache_queries_total", "prefix_cache_hits_total", "prompt_tokens_total", "generation_tokens_total"],
        ...["time_to_first_token_seconds", "inter_token_latency_seconds", "request_time_per_output_token_seconds"],
        ...["e2e_request_latency_seconds", "request_queue_time_seconds", "request_prefill_time_seconds"],
        ...["request_decode_time_seconds", "request_inference_time_seconds", "request_success_total"],
        ...["request_prompt_tokens", "request_generation_tokens", "lora_requests_info"],
      ];
      assertEquals(
        names.filter((name) => !after.has(`vllm:${name}`)),
        [],
      );
      const grown = (family: string, sample?: string) =>
        sampleValue(after, family, sample) - sampleValue(before, family, sample);
      assertEquals(grown("vllm:generation_tokens_total"), 9);
      for (const name of ["e2e_request_latency_seconds", "request_queue_time_seconds", "time_to_first_token_seconds"]) {
        assertEquals(grown(`vllm:${name}`, `vllm:${name}_count`), 1, name);
      }
      const [lora] = after.get("vllm:lora_requests_info")?.samples ?? [];
      assertEquals(Object.keys(lora?.labels ?? {}).sort(), [
        "max_lora",
        "model_name",
        "running_lora_adapters",
        "waiting_lora_adapters",
      ]);
      assert(Math.abs((lora?.value ?? 0) - Date.now() / 1000) < 60);
    });

    it("is a span for each, below the caller's, sent to the collector", async () => {
      const [traceId, parent] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
      await (await chat(server, "say hi", { stream: true }, { traceparent: `00-${traceId}-${parent}-01` })).text();
      await until(() => collector.spans.some((span) => span.traceId === traceId), "the span has come");
      assertEquals([...collector.paths], ["/v1/traces"]);
      const span = collector.spans.find((one) => one.traceId === traceId);
      assertEquals([span?.name, span?.kind, span?.parentSpanId], ["POST /v1/chat/completions", 2, parent]);
      const attributes = Object.fromEntries(
        (span?.attributes ?? []).map(({ key, value }) => [
          key,
          value.stringValue ?? value.intValue ?? value.doubleValue,
        ]),
      );
      assertEquals(attributes["gen_ai.request.model"], "fake");
      assertEquals([attributes["http.response.status_code"], attributes["gen_ai.usage.output_tokens"]], [200, 3]);
      assertEquals(
        span?.events?.map(({ name }) => name),
        ["first_token"],
      );
      assert(BigInt(span?.endTimeUnixNano ?? 0) >= BigInt(span?.startTimeUnixNano ?? 1));
      assertEquals(JSON.stringify(collector.spans).includes(SECRET), false);
    });

    it("goes on when nobody takes it: a full disk, a collector that is gone", async () => {
      const full = openSync("/dev/full", "w");
      const args = ["--otlp-endpoint", "http://127.0.0.1:9", "--log-format", "pretty", "--log-prompts"];
      const unheard = await startServerProcess(runtime, [...fake, ...args], { log: full });
      closeSync(full);
      for (let i = 0; i < 3; i++) assertEquals((await chat(unheard, "say x")).status, 200);
      assertEquals(await unheard.stop(), 0);
    });

    it("goes on when nobody reads it", async () => {
      const pipe = join(folder, "log");
      spawnSync("mkfifo", [pipe]);
      // Open at both ends, and never read.
      const unread = openSync(pipe, "r+");
      const args = ["--log-format", "json", "--log-prompts"];
      const unheard = await startServerProcess(runtime, [...fake, ...args], { log: unread });
      for (let i = 0; i < 5; i++) {
        const answer = await chat(unheard, `say x${" ".repeat(30_000)}`, { max_tokens: 1 });
        assertEquals(answer.status, 200);
      }
      assertEquals(await unheard.stop(), 0);
      closeSync(unread);
    });

    it("has what clients send where that is asked for, for people or for programs", async () => {
      const env = { APIQ_LOG_PROMPTS: "true", APIQ_LOG_FORMAT: "pretty" };
      const open = await startServerProcess(runtime, fake, { env });
      try {
        await chat(open, `say ${SECRET}`, {}, { "x-request-id": "told" });
        await until(() => open.output().includes("requestId=told method=POST"), "there is a line");
        assertMatch(open.output(), /^\d\d:\d\d:\d\d INFO {2}prompt requestId=told body=.*a secret that nobody logs/m);
      } finally {
        await open.stop();
      }
    });
  });
}
