/** Who may use the real server process, from where, and how much: keys, pages in browsers, limits. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../http/fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, runApiq, type ServerProcess, startServerProcess } from "../http/server_process.ts";
import { until } from "../http/until.ts";

const USER = "the-key-of-a-user";
const OTHER = "the-key-of-another";
const ADMIN = "the-key-of-an-admin";
const PAGE = "https://chat.example.org";

interface EngineCounts {
  running: number;
  generated_tokens: number;
}

for (const runtime of RUNTIMES) {
  describe(`access under ${runtime}`, () => {
    let server: ServerProcess;
    const model = createFakeModel();
    const folder = mkdtempSync(join(tmpdir(), "apiq-access-"));
    const fake = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];

    beforeAll(async () => {
      const sha256 = createHash("sha256").update(USER).digest("hex");
      writeFileSync(join(folder, "users"), `sha256:${sha256} web\n${OTHER}\n`);
      writeFileSync(join(folder, "admins"), `${ADMIN}\n`);
      const keys = ["--api-key-file", join(folder, "users"), "--admin-key-file", join(folder, "admins")];
      const limits = ["--requests-per-minute", "6", "--tokens-per-minute", "100000", "--requests-at-once", "2"];
      const times = ["--request-timeout", "2", "--body-timeout", "1", "--cors-origin", PAGE];
      server = await startServerProcess(runtime, [...fake, ...keys, ...limits, ...times]);
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
      rmSync(folder, { recursive: true });
    });

    const ask = (path: string, key: string | undefined, init: RequestInit = {}, headers: Record<string, string> = {}) =>
      fetch(`${server.url}${path}`, {
        ...init,
        headers: { ...headers, ...(key !== undefined && { authorization: `Bearer ${key}` }) },
      });
    const chat = (key: string, content: string, more: object = {}) => {
      const body = JSON.stringify({ model: "fake", messages: [{ role: "user", content }], ...more });
      return ask("/v1/chat/completions", key, { method: "POST", body });
    };
    const codeOf = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code;

    it("knows users by their keys or the hashes of these, and lets only admins change what is served", async () => {
      const load = { method: "POST", body: JSON.stringify({ lora_name: "a", lora_path: "/nowhere" }) };
      assertEquals((await ask("/v1/models", USER)).status, 200);
      assertEquals((await ask("/v1/models", ADMIN)).status, 200);
      const refused = await ask("/v1/models", "the-key-of-a-userx");
      assertEquals([refused.status, refused.headers.get("www-authenticate")], [401, "Bearer"]);
      const forbidden = await ask("/v1/load_lora_adapter", USER, load);
      assertEquals([forbidden.status, await codeOf(forbidden)], [403, "admin_key_required"]);
      assertEquals((await ask("/v1/load_lora_adapter", undefined, load)).status, 401);
      // The admin gets as far as the route, which has no folder to load from.
      assertEquals(await codeOf(await ask("/v1/load_lora_adapter", ADMIN, load)), "adapter_loading_disabled");
    });

    it("answers pages of the origins that it was given, and no others", async () => {
      const preflight = (origin: string) =>
        ask(
          "/v1/chat/completions",
          undefined,
          { method: "OPTIONS" },
          { origin, "access-control-request-method": "POST" },
        );
      const allowed = await preflight(PAGE);
      assertEquals([allowed.status, allowed.headers.get("access-control-allow-origin")], [204, PAGE]);
      const other = await preflight("https://other.example.org");
      assertEquals([other.status, other.headers.get("access-control-allow-origin")], [403, null]);
      const read = await ask("/v1/models", USER, {}, { origin: PAGE });
      assertStringIncludes(read.headers.get("access-control-expose-headers") ?? "", "x-request-id");
      const own = await ask("/v1/models", USER, {}, { origin: server.url });
      assertEquals([own.status, own.headers.get("access-control-allow-origin")], [200, null]);
    });

    it("tells browsers to make no page of its answers", async () => {
      const { headers } = await ask("/v1/models", USER);
      assertEquals(headers.get("x-content-type-options"), "nosniff");
      assertEquals(headers.get("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
      assertStringIncludes((await ask("/docs", undefined)).headers.get("content-security-policy") ?? "", "style-src");
    });

    it("limits requests of a key, in a minute and at a time, and says what is left", async () => {
      const streams = [await chat(OTHER, "forever", { stream: true }), await chat(OTHER, "forever", { stream: true })];
      const crowded = await chat(OTHER, "say x");
      assertEquals([crowded.status, crowded.headers.get("x-ratelimit-remaining-requests")], [429, "4"]);
      const { error } = (await crowded.json()) as { error: { message: string } };
      assertStringIncludes(error.message, "--requests-at-once");
      for (const stream of streams) await stream.body?.cancel();
      await until(async () => (await chat(OTHER, "say x")).status === 200, "the streams are gone");

      const first = await chat(USER, "say x");
      assertEquals(first.headers.get("x-ratelimit-limit-requests"), "6");
      assertEquals(first.headers.get("x-ratelimit-limit-tokens"), "100000");
      assertMatch(first.headers.get("x-ratelimit-reset-requests") ?? "", /^\d+(\.\d+)?s$/);
      assert(Number(first.headers.get("x-ratelimit-remaining-tokens")) < 100_000);
      for (let i = 0; i < 5; i++) assertEquals((await chat(USER, "say x")).status, 200);
      const refused = await chat(USER, "say x");
      assertEquals([refused.status, refused.headers.get("x-ratelimit-remaining-requests")], [429, "0"]);
      const seconds = Number(refused.headers.get("retry-after"));
      assert(seconds >= 1 && seconds <= 10, `${seconds}`);
      assertEquals((await ask("/v1/models", USER)).status, 200);
    });

    it("ends answers that take too long, with an error that says so", async () => {
      const whole = await chat(ADMIN, "forever");
      assertEquals([whole.status, await codeOf(whole)], [504, "request_timeout"]);
      const streamed = await (await chat(ADMIN, "forever", { stream: true })).text();
      const events = streamed.trim().split("\n\n");
      assert(events.length > 2);
      assertStringIncludes(events.at(-1) ?? "", '"code":"request_timeout"');
    });

    it("frees what an answer holds when its time is up, whether or not its client reads", async () => {
      const { hostname, port } = new URL(server.url);
      const before = ((await (await ask("/health", undefined)).json()) as { stats: EngineCounts }).stats
        .generated_tokens;
      const socket = createConnection({ host: hostname, port: Number(port) });
      await once(socket, "connect");
      socket.pause();
      // Several megabytes a second: more than all buffers on the way hold.
      const large = { stream: true, n: 4, logprobs: true, top_logprobs: 20 };
      const body = JSON.stringify({ model: "fake", messages: [{ role: "user", content: "forever" }], ...large });
      const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${ADMIN}`;
      socket.write(`${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      const stats = async () => {
        const health = (await (await ask("/health", undefined)).json()) as { stats: EngineCounts | null };
        return health.stats ?? { running: -1, generated_tokens: before };
      };
      await until(async () => (await stats()).generated_tokens > before, "it runs");
      await until(async () => (await stats()).running === 0, "it does not run any more");
      assertEquals(socket.destroyed, false);
      socket.destroy();
    });

    it("does not wait for a body that does not come, whatever its framing", async () => {
      const { hostname, port } = new URL(server.url);
      for (const rest of [
        'Content-Length: 100\r\n\r\n{"prompt":',
        'Transfer-Encoding: chunked\r\n\r\na\r\n{"prompt":\r\n',
      ]) {
        const socket = createConnection({ host: hostname, port: Number(port) });
        await once(socket, "connect");
        let answer = "";
        socket.on("data", (data) => {
          answer += data.toString();
        });
        const head = `POST /tokenize HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${USER}`;
        socket.write(`${head}\r\n${rest}`);
        await until(() => answer.includes("body_timeout"), "there is an answer");
        assertMatch(answer, /^HTTP\/1\.1 408 /);
        socket.destroy();
      }
    });

    it("does not listen to others without keys", async () => {
      const { code, stderr } = await runApiq(runtime, ["serve", "--host", "0.0.0.0", "--port", "0"]);
      assertEquals(code, 2);
      assertStringIncludes(stderr, 'Cannot use --host: received "0.0.0.0", expected 127.0.0.1, or api-key-file');
    });

    it("without keys answers only this machine's own pages and programs", async () => {
      const open = await startServerProcess(runtime, []);
      const { hostname, port } = new URL(open.url);
      const status = async (headers: string) => {
        const socket = createConnection({ host: hostname, port: Number(port) });
        socket.write(`GET /v1/models HTTP/1.1\r\nConnection: close\r\n${headers}\r\n\r\n`);
        const [answer] = (await once(socket, "data")) as [Uint8Array];
        socket.destroy();
        return Number(new TextDecoder().decode(answer).split(" ")[1]);
      };
      try {
        assertEquals(await status(`Host: localhost:${port}`), 200);
        assertEquals(await status(`Host: 127.0.0.1:${port}`), 200);
        assertEquals(await status(`Host: evil.example.org:${port}`), 403);
        assertEquals(await status(`Host: 127.0.0.1:${port}\r\nOrigin: http://evil.example.org`), 403);
        assertEquals(await status(`Host: 127.0.0.1:${port}\r\nOrigin: null`), 403);
      } finally {
        await open.stop();
      }
    });
  });
}
