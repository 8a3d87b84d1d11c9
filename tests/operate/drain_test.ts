/** SIGTERM while the real server process works: no new work, /ready says so, running answers end or are ended, exit code 0. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, afterEach, describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../http/fake_model.ts";
import { FAKE_ENGINE, RUNTIMES, type ServerProcess, startServerProcess } from "../http/server_process.ts";
import { until } from "../http/until.ts";

for (const runtime of RUNTIMES) {
  describe(`a server that is told to stop, under ${runtime}`, () => {
    const model = createFakeModel();
    let server: ServerProcess;

    const start = async (drainTimeout: string) => {
      const fake = ["--model", model.dir, "--engine", FAKE_ENGINE, "--served-model-name", "fake"];
      server = await startServerProcess(runtime, [...fake, "--drain-timeout", drainTimeout]);
    };
    afterEach(async () => {
      await server.stop("SIGKILL");
    });
    afterAll(() => model.remove());

    const chat = (content: string, stream: boolean) =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: "POST",
        body: JSON.stringify({ model: "fake", stream, messages: [{ role: "user", content }] }),
      });
    const ready = async () => await fetch(`${server.url}/ready`);

    it("finishes what it has begun, and takes nothing new", async () => {
      await start("30");
      const text = "z".repeat(300);
      const stream = await chat(`slow ${text}`, true);
      const whole = chat(`slow ${text}`, false);
      await until(async () => {
        const health = (await (await fetch(`${server.url}/health`)).json()) as { stats: { running: number } | null };
        return health.stats?.running === 2;
      }, "both run");
      const ended = server.stop("SIGTERM");
      await until(async () => (await ready()).status === 503, "it is not ready any more");
      assertEquals(await (await ready()).json(), { status: "draining" });
      const late = await chat("say x", false);
      assertEquals([late.status, late.headers.get("retry-after")], [503, "2"]);
      assertEquals(((await late.json()) as { error: { code: string } }).error.code, "shutting_down");
      assertStringIncludes(await stream.text(), "[DONE]");
      const answer = (await (await whole).json()) as { choices: { message: { content: string } }[] };
      assertEquals(answer.choices[0]?.message.content, text);
      assertEquals(await ended, 0);
    });

    it("ends what does not finish in time, and says why", async () => {
      await start("1");
      const stream = await chat("forever", true);
      const whole = chat("forever", false);
      const reader = stream.body?.getReader();
      await reader?.read();
      const begin = performance.now();
      const ended = server.stop("SIGTERM");
      let text = "";
      for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
        text += new TextDecoder().decode(next.value);
      }
      const last = JSON.parse(text.trim().split("\n\n").at(-1)?.slice("data: ".length) ?? "{}");
      assertEquals([last.error.code, last.error.type], ["shutting_down", "server_error"]);
      assertEquals((await whole).status, 503);
      assertEquals(await ended, 0);
      const seconds = (performance.now() - begin) / 1000;
      assert(seconds > 0.9 && seconds < 8, `it took ${seconds} s`);
    });

    it("ends at once when nothing runs", async () => {
      await start("30");
      const begin = performance.now();
      assertEquals(await server.stop("SIGTERM"), 0);
      assert(performance.now() - begin < 8000);
    });
  });
}
