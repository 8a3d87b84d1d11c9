/** The server process from start to end: without a model, while loading, with slow readers, on signals. */
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createConnection } from "node:net";
import process from "node:process";
import { promisify } from "node:util";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { itWhen } from "../shared.ts";
import { createFakeModel } from "./fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, runApiq, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

const MEGABYTE = 1e6;
const FLOOD_TOKENS = 100_000;

const hasCurl = spawnSync("curl", ["--version"]).status === 0;

interface EngineCounts {
  running: number;
  generated_tokens: number;
}

for (const runtime of RUNTIMES) {
  describe(`the server under ${runtime}`, () => {
    const model = createFakeModel();
    const args = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
    const servers: ServerProcess[] = [];
    let server: ServerProcess;

    const start = async (more: readonly string[]): Promise<ServerProcess> => {
      const started = await startServerProcess(runtime, more);
      servers.push(started);
      return started;
    };
    const body = (content: string, stream: boolean, more: object = {}) =>
      JSON.stringify({ model: "fake", stream, messages: [{ role: "user", content }], ...more });
    const stats = async () => {
      const health = (await (await fetch(`${server.url}/health`)).json()) as { stats: EngineCounts | null };
      return health.stats ?? { running: -1, generated_tokens: 0 };
    };

    beforeAll(async () => {
      server = await start(args);
    });
    afterAll(async () => {
      await Promise.all(servers.map((one) => one.stop("SIGKILL")));
      model.remove();
    });

    it("serves without a model and says how to get one", async () => {
      const empty = await start([]);
      assertStringIncludes(empty.output(), "scripts/apiq import");
      const health = await fetch(`${empty.url}/health`);
      assertEquals([health.status, ((await health.json()) as { status: string }).status], [200, "no_model"]);
      const chat = await fetch(`${empty.url}/v1/chat/completions`, { method: "POST", body: body("say x", false) });
      const { error } = (await chat.json()) as { error: { code: string; message: string } };
      assertEquals([chat.status, error.code], [503, "no_model"]);
      assertStringIncludes(error.message, "npm start -- --model DIR");
      assertEquals(await (await fetch(`${empty.url}/v1/models`)).json(), { object: "list", data: [] });
      assertEquals(await empty.stop(), 0);
    });

    itWhen(hasCurl, "curl is absent")("prints a curl example that works as it stands", async () => {
      const example = /^ {2}(curl .+)$/m.exec(server.output())?.[1];
      assert(example, server.output());
      const { stdout } = await promisify(execFile)("sh", ["-c", example]);
      assertEquals(JSON.parse(stdout).choices[0].message.role, "assistant");
      const streamed = example.replace('{"model"', '{"stream":true,"model"').replace("curl", "curl --no-buffer");
      const { stdout: events } = await promisify(execFile)("sh", ["-c", streamed]);
      assert(events.startsWith("data: {") && events.endsWith("data: [DONE]\n\n"), events);
    });

    it("keeps the answers of a client that does not read within bounds, and drops them when it goes", async () => {
      const before = residentBytes(server.pid);
      const { hostname, port } = new URL(server.url);
      const sockets = Array.from({ length: 4 }, () => createConnection({ host: hostname, port: Number(port) }));
      for (const socket of sockets) {
        await once(socket, "connect");
        socket.pause();
        const request = body("flood", true, { max_tokens: FLOOD_TOKENS });
        socket.write(
          `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${Buffer.byteLength(request)}\r\n\r\n${request}`,
        );
      }
      await until(async () => (await stats()).generated_tokens >= 4 * FLOOD_TOKENS, "the engine is through", 120_000);
      const grown = residentBytes(server.pid) - before;
      // Mostly what the runtime has not collected yet; serve/listen_test.ts measures the backpressure itself.
      assert(grown < 200 * MEGABYTE, `resident memory grew by ${grown / MEGABYTE} MB`);
      for (const socket of sockets) socket.destroy();
      assertEquals((await stats()).running, 0);
    });

    it("says that a port is in use", async () => {
      const { code, stderr } = await runApiq(runtime, ["serve", "--port", new URL(server.url).port]);
      assertEquals(code, 1);
      assertStringIncludes(stderr, "the port is in use, choose another with --port");
    });

    it("ends with an error when the model cannot be loaded", async () => {
      const absent = await runApiq(runtime, ["serve", "--port", "0", "--model", `${model.dir}/absent`]);
      assertEquals(absent.code, 1);
      assertStringIncludes(absent.stderr, `${model.dir}/absent`);
    });

    it("lets a running answer finish on SIGTERM, takes no other, and leaves no process behind", async () => {
      const ending = await start(args);
      const enginePid = engineOf(ending.pid);
      const response = await fetch(`${ending.url}/v1/chat/completions`, {
        method: "POST",
        body: body(`slow ${"z".repeat(40)}`, true),
      });
      const reader = response.text();
      const ended = ending.stop("SIGTERM");
      const text = await reader;
      assertStringIncludes(text, "[DONE]");
      assertEquals(await ended, 0);
      await until(() => !isAlive(enginePid), "the engine process is gone");
    });

    it("takes its engine along when it is killed", async () => {
      const killed = await start(args);
      const enginePid = engineOf(killed.pid);
      assert(isAlive(enginePid));
      await killed.stop("SIGKILL");
      await until(() => !isAlive(enginePid), "the engine process is gone");
    });
  });
}

function residentBytes(pid: number): number {
  const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}

/** The only child of a process. */
function engineOf(pid: number): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
  assertEquals(children.length, 1);
  return Number(children[0]);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/State:\s+Z/.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
