/** What the real server process bears: huge, deep and broken bodies, long lists, crowds of clients that vanish. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

const MEGABYTE = 1e6;
const BODY_BYTES = 100 * MEGABYTE;
const CROWD = 24;

for (const runtime of RUNTIMES) {
  describe(`robustness under ${runtime}`, () => {
    let server: ServerProcess;
    const model = createFakeModel();

    beforeAll(async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, args);
    });
    afterAll(async () => {
      await server?.stop();
      model.remove();
    });

    const residentBytes = () =>
      1024 * Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]);
    const post = async (path: string, body: string) => {
      const response = await fetch(`${server.url}${path}`, { method: "POST", body });
      const { error } = (await response.json()) as { error?: { message: string; param: string | null } };
      return { status: response.status, message: error?.message ?? "", param: error?.param };
    };
    const connect = async (): Promise<Socket> => {
      const { hostname, port } = new URL(server.url);
      const socket = createConnection({ host: hostname, port: Number(port) });
      socket.on("error", () => {});
      await once(socket, "connect");
      return socket;
    };
    const chat = (more: object) =>
      JSON.stringify({ model: "fake", messages: [{ role: "user", content: "say x" }], ...more });

    it("refuses a body of 100 MB without keeping it, announced or not", async () => {
      const chunk = "x".repeat(MEGABYTE);
      for (const framing of [`Content-Length: ${BODY_BYTES}`, "Transfer-Encoding: chunked"]) {
        const isChunked = framing.startsWith("Transfer");
        const before = residentBytes();
        const socket = await connect();
        let answer = "";
        socket.on("data", (data) => {
          answer += data.toString();
        });
        socket.write(`POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n${framing}\r\n\r\n`);
        let largest = 0;
        for (let sent = 0; sent < BODY_BYTES && !socket.destroyed && answer === ""; sent += MEGABYTE) {
          const piece = isChunked ? `${chunk.length.toString(16)}\r\n${chunk}\r\n` : chunk;
          if (!socket.write(piece))
            await Promise.race([once(socket, "drain"), once(socket, "close"), once(socket, "data")]);
          largest = Math.max(largest, residentBytes());
        }
        await until(() => answer !== "" || socket.destroyed, "there is an answer");
        socket.destroy();
        assertMatch(answer, /^HTTP\/1\.1 413 /);
        const grown = largest - before;
        assert(grown < 80 * MEGABYTE, `resident memory grew by ${grown / MEGABYTE} MB (${framing})`);
      }
    });

    it("refuses deep nesting wherever it is", async () => {
      const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
      const schema = (levels: number) =>
        `{"model":"fake","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":${deep(levels)}}}}`;
      for (const [path, body] of [
        ["/v1/chat/completions", deep(100_000)],
        ["/v1/chat/completions", schema(100_000)],
        ["/v1/chat/completions", schema(100)],
        ["/v1/responses", deep(100_000)],
        ["/tokenize", "[".repeat(1_000_000)],
      ] as const) {
        const { status, message } = await post(path, body);
        assertEquals(status, 400, message);
      }
    });

    it("refuses lists of ten thousand", async () => {
      const many = Array.from({ length: 10_000 }, (_, index) => `stop${index}`);
      for (const [more, param] of [
        [{ stop: many }, "stop"],
        [{ logit_bias: Object.fromEntries(many.map((_, index) => [index, 1])) }, "logit_bias"],
        [{ tools: many.map((name) => ({ type: "function", function: { name } })) }, "tools"],
      ] as const) {
        const refusal = await post("/v1/chat/completions", chat(more));
        assertEquals([refusal.status, refusal.param], [400, param]);
      }
      const prompts = JSON.stringify({ model: "fake", prompt: many });
      assertEquals((await post("/v1/completions", prompts)).status, 400);
    });

    it("refuses a schema of ten thousand lines, and answers the next request", async () => {
      const properties = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`p${i}`, { type: "string" }]));
      const json_schema = { name: "big", schema: { type: "object", properties } };
      const refusal = await post(
        "/v1/chat/completions",
        chat({ response_format: { type: "json_schema", json_schema } }),
      );
      assertEquals([refusal.status, refusal.param], [400, "response_format"]);
      assertEquals((await post("/v1/chat/completions", chat({}))).status, 200);
    });

    it("gives a place in a queue of none back when a client vanishes before its answer begins", async () => {
      const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      const narrow = await startServerProcess(runtime, [...args, "--max-sequences", "1", "--max-queue", "0"]);
      const ask = (path: string, more: object, signal?: AbortSignal) =>
        fetch(`${narrow.url}${path}`, {
          method: "POST",
          body: JSON.stringify({ model: "fake", ...more }),
          ...(signal && { signal }),
        });
      // A full queue is said before the request is read.
      const isFull = async () => (await ask("/v1/completions", {})).status === 429;
      // An answer with a grammar has no head before its first token.
      const jsonSchema = { name: "x", schema: { type: "object" } };
      const messages = [{ role: "user", content: "late x" }];
      const whole = { messages, response_format: { type: "json_schema", json_schema: jsonSchema } };
      const response = { input: "late x", text: { format: { type: "json_schema", ...jsonSchema } }, stream: true };
      try {
        for (const [path, request] of [
          ["/v1/chat/completions", { ...whole, stream: true }],
          ["/v1/chat/completions", whole],
          ["/v1/responses", response],
        ] as const) {
          const gone = new AbortController();
          const asked = ask(path, request, gone.signal).then(
            ({ status }) => status,
            () => "gone",
          );
          await until(isFull, "its place is taken");
          gone.abort();
          assertEquals(await asked, "gone");
          await until(async () => !(await isFull()), `its place is free again (${path})`, 5000);
        }
      } finally {
        await narrow.stop();
      }
    });

    it("takes a body in chunks that breaks off for the client's mistake", async () => {
      const length = server.output().length;
      const socket = await connect();
      socket.write(
        'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"prompt":\r\n',
      );
      await until(async () => (await fetch(`${server.url}/health`)).status === 200, "it is read");
      socket.destroy();
      const log = () => server.output().slice(length);
      await until(() => /\/tokenize.*\n/.test(log()), "the request has ended");
      assert(!log().includes("unexpected error"), log());
      assertMatch(log(), /"status":400/);
    });

    it("frees everything when a crowd of clients vanishes at once", async () => {
      const body = chat({ messages: [{ role: "user", content: "forever" }], stream: true, n: 4 });
      const sockets = await Promise.all(Array.from({ length: CROWD }, connect));
      const answered = sockets.map((socket) => once(socket, "data"));
      for (const socket of sockets) {
        socket.write(
          `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        );
      }
      await Promise.all(answered);
      const stats = async () => {
        const health = (await (await fetch(`${server.url}/health`)).json()) as {
          stats: { running: number; kv_blocks_used: number };
        };
        return health.stats;
      };
      await until(async () => (await stats()).running === 4 * CROWD, "all run");
      for (const socket of sockets) socket.destroy();
      await until(async () => (await stats()).running === 0, "none runs");
      assertEquals((await stats()).kv_blocks_used, 0);
      assertEquals((await post("/v1/chat/completions", chat({}))).status, 200);
    });
  });
}
