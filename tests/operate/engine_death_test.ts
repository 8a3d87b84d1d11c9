/** The engine process dies under the real server with a real (tiny) model: its requests are told, and it comes back as it was. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createByteModel } from "../fixtures/byte_model.ts";
import { writeTinyAdapter } from "../fixtures/tiny_adapter.ts";
import type { TinyModel } from "../fixtures/tiny_model.ts";
import { RUNTIMES, type ServerProcess, startServerProcess } from "../http/server_process.ts";
import { until } from "../http/until.ts";
import { parsePrometheus } from "./prometheus.ts";

for (const runtime of RUNTIMES) {
  describe(`the death of the engine under ${runtime}`, () => {
    let model: TinyModel;
    let folder: string;
    let server: ServerProcess;

    beforeAll(async () => {
      model = await createByteModel();
      folder = mkdtempSync(join(tmpdir(), "apiq-death-"));
      for (const [name, seed] of [
        ["start", 1],
        ["loaded", 2],
      ] as const) {
        await writeTinyAdapter(model.dir, join(folder, name), { seed });
      }
      server = await startServerProcess(runtime, [
        ...["--model", model.dir, "--served-model-name", "base", "--threads", "1", "--adapter-root", folder],
        ...["--adapter", `start=${join(folder, "start")}`],
      ]);
      const body = { lora_name: "loaded", lora_path: join(folder, "loaded") };
      assertEquals((await post("/v1/load_lora_adapter", body)).status, 200);
    });
    afterAll(async () => {
      await server?.stop();
      rmSync(folder, { recursive: true });
      model[Symbol.dispose]();
    });

    const post = (path: string, body: object) =>
      fetch(`${server.url}${path}`, { method: "POST", body: JSON.stringify(body) });
    const complete = (name: string, more: object) =>
      post("/v1/completions", { model: name, prompt: "abc", temperature: 0, ignore_eos: true, ...more });
    const textOf = async (name: string) => {
      const response = await complete(name, { max_tokens: 12 });
      return ((await response.json()) as { choices: { text: string }[] }).choices[0]?.text;
    };
    const isReady = async () => (await fetch(`${server.url}/ready`)).status === 200;
    const children = () => readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "utf8").trim().split(" ");
    const enginePid = () => {
      const pid = Number(children()[0]);
      assert(pid > 1, "there is no engine");
      return pid;
    };

    /** V8 lets the first SIGSEGV pass that comes from outside: the instruction that it would fault on again does not. */
    const kill = async (signal: NodeJS.Signals) => {
      const pid = enginePid();
      process.kill(pid, signal);
      await setTimeout(20);
      if (children().includes(`${pid}`)) process.kill(pid, signal);
    };

    for (const signal of ["SIGKILL", "SIGSEGV"] as const) {
      it(`by ${signal} is told to its requests, even midway, and mended with all adapters`, async () => {
        const before = await Promise.all(["base", "start", "loaded"].map(textOf));
        assertEquals(new Set(before).size, 3);
        const stream = await complete("start", { max_tokens: 2000, stream: true });
        const whole = complete("loaded", { max_tokens: 2000 });
        const reader = stream.body?.getReader();
        await reader?.read();

        await kill(signal);
        let text = "";
        for (let next = await reader?.read(); next && !next.done; next = await reader?.read()) {
          text += new TextDecoder().decode(next.value);
        }
        const { error } = JSON.parse(text.trim().split("\n\n").at(-1)?.slice("data: ".length) ?? "{}");
        assertEquals([error.type, error.code], ["server_error", "engine_restarting"]);
        assertStringIncludes(error.message, signal);
        const failed = await whole;
        assertEquals([failed.status, failed.headers.get("retry-after")], [503, "2"]);

        await until(isReady, "the engine is back");
        const after = await Promise.all(["base", "start", "loaded"].map(textOf));
        assertEquals(after, before);
      });
    }

    it("leaves metrics that say which adapters are in use", async () => {
      const stream = await complete("start", { max_tokens: 2000, stream: true });
      const inUse = async () => {
        const families = parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
        return families.get("vllm:lora_requests_info")?.samples.map(({ labels }) => labels.running_lora_adapters);
      };
      await until(async () => (await inUse())?.[0] === "start", "the adapter is in use");
      await stream.body?.cancel();
      await until(async () => (await inUse())?.[0] === "", "no adapter is in use");
    });

    it("is not ready while it lasts, and shows in metrics and log", async () => {
      process.kill(enginePid(), "SIGKILL");
      await until(async () => !(await isReady()), "it is not ready");
      const refused = await complete("base", { max_tokens: 1 });
      assertEquals(refused.status, 503);
      await until(isReady, "the engine is back");
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      assertMatch(metrics, /^apiq:engine_restarts_total\{model_name="base"\} 3$/m);
      assertMatch(metrics, /^vllm:lora_requests_info\{[^}]*max_lora="16"/m);
      assert(server.output().includes("engine died"), server.output());
    });
  });
}
