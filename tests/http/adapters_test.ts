/** Adapters over HTTP: a real server with a real (tiny) model, started as a user starts it. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createByteModel } from "../fixtures/byte_model.ts";
import { writeTinyAdapter } from "../fixtures/tiny_adapter.ts";
import type { TinyModel } from "../fixtures/tiny_model.ts";
import { useFakeServer } from "./fake_server.ts";
import { RUNTIMES, runApiq, type ServerProcess, startServerProcess } from "./server_process.ts";
import { until } from "./until.ts";

interface Listed {
  lora_name: string;
  lora_path: string;
  generation: number;
  mode: string;
}
interface Failed {
  error: { message: string; code: string; param: string };
}

for (const runtime of RUNTIMES) {
  describe(`adapters over HTTP under ${runtime}`, () => {
    let model: TinyModel;
    let folder: string;
    let root: string;
    let watched: string;
    let server: ServerProcess;

    beforeAll(async () => {
      model = await createByteModel({ loraRank: 4 });
      folder = realpathSync(mkdtempSync(join(tmpdir(), "apiq-http-adapters-")));
      [root, watched] = [join(folder, "root"), join(folder, "watched")];
      for (const dir of [root, watched]) mkdirSync(dir);
      for (const [name, seed] of Object.entries({ start: 1, first: 2, second: 3 })) {
        await writeTinyAdapter(model.dir, join(root, name), { seed });
      }
      await writeTinyAdapter(model.dir, join(folder, "outside"));
      symlinkSync(join(folder, "outside"), join(root, "link"));
      server = await startServerProcess(runtime, [
        ...["--model", model.dir, "--served-model-name", "base", "--threads", "1"],
        ...["--adapter", `start=${join(root, "start")}:stack`, "--adapter-root", root, "--watch", watched],
        ...["--max-adapters", "2"],
      ]);
      await until(async () => (await fetch(`${server.url}/v1/models/start`)).ok, "the adapter of the flag is loaded");
    });
    afterAll(async () => {
      await server?.stop();
      rmSync(folder, { recursive: true });
      model[Symbol.dispose]();
    });

    const ask = async (path: string, body?: object) => {
      const response = await fetch(server.url + path, body && { method: "POST", body: JSON.stringify(body) });
      return { status: response.status, body: (await response.json()) as unknown };
    };
    const load = (name: string, path: string, more: object = {}) =>
      ask("/v1/load_lora_adapter", { lora_name: name, lora_path: path, ...more });
    const unload = (name: string, more: object = {}) => ask("/v1/unload_lora_adapter", { lora_name: name, ...more });
    const list = async () => ((await ask("/v1/lora_adapters")).body as { data: Listed[] }).data;
    const complete = async (name: string) => {
      const request = { model: name, prompt: "What is this?", max_tokens: 16, temperature: 0, ignore_eos: true };
      const { status, body } = await ask("/v1/completions", request);
      assertEquals(status, 200, JSON.stringify(body));
      return (body as { choices: { text: string }[] }).choices[0]!.text;
    };
    const assertRefused = async (answer: Promise<{ status: number; body: unknown }>, status: number, code: string) => {
      const { status: received, body } = await answer;
      assertEquals([received, (body as Failed).error.code], [status, code]);
      return (body as Failed).error.message;
    };

    it("load, answer under their names, are listed, and unload", async () => {
      const base = await complete("base");
      const loaded = (await load("mine", "first")).body as Listed;
      assertEquals([loaded.lora_path, loaded.mode], [join(root, "first"), "stack"]);
      assertEquals(
        (await list()).map(({ lora_name }) => lora_name),
        ["start", "mine"],
      );
      const answers = [base, await complete("start"), await complete("mine")];
      assertEquals(new Set(answers).size, 3);
      const { data } = (await ask("/v1/models")).body as {
        data: { id: string; parent: string | null; root: string }[];
      };
      assertEquals(
        data.map(({ id, parent, root }) => [id, parent, root]),
        [
          ["base", null, model.dir],
          ["start", "base", join(root, "start")],
          ["mine", "base", join(root, "first")],
        ],
      );
      assertEquals((await ask("/v1/models/mine")).body, data[2]);
      assertEquals((await unload("mine")).status, 200);
      await assertRefused(ask("/v1/completions", { model: "mine", prompt: "x" }), 404, "model_not_found");
      await assertRefused(ask("/v1/models/mine"), 404, "model_not_found");
    });

    it("are replaced in place, at the generation that was expected only", async () => {
      const { generation } = (await load("a", "first")).body as Listed;
      const before = await complete("a");
      assertStringIncludes(await assertRefused(load("a", "second"), 400, "adapter_exists"), "load_inplace");
      const inPlace = { load_inplace: true, expected_generation: generation };
      const next = (await load("a", "second", inPlace)).body as Listed;
      assert(next.generation > generation);
      assertNotEquals(await complete("a"), before);
      await assertRefused(load("a", "first", inPlace), 409, "generation_conflict");
      await assertRefused(unload("a", { expected_generation: generation }), 409, "generation_conflict");
      assertEquals((await unload("a", { expected_generation: next.generation })).status, 200);
    });

    it("come only from the configured folders", async () => {
      for (const path of [join(folder, "outside"), "../outside", "link", "/etc", "a\0b"]) {
        await assertRefused(load("bad", path), 403, "path_not_allowed");
      }
      await assertRefused(load("bad", "nowhere"), 404, "path_not_found");
      assertEquals((await list()).length, 1);
    });

    it("refuse bodies that are none, and name the field", async () => {
      for (const [body, param] of [
        [{ lora_path: "first" }, "lora_name"],
        [{ lora_name: "x" }, "lora_path"],
        [{ lora_name: "base", lora_path: "first" }, "lora_name"],
        [{ lora_name: "a b", lora_path: "first" }, "lora_name"],
        [{ lora_name: "x", lora_path: "first", mode: "both" }, "mode"],
        [{ lora_name: "x", lora_path: "first", expected_generation: -1 }, "expected_generation"],
        [{ lora_name: "x", lora_path: "first", strategy: 1 }, "strategy"],
      ] as const) {
        const { status, body: answer } = await ask("/v1/load_lora_adapter", body);
        assertEquals([status, (answer as Failed).error.param], [400, param]);
      }
      await assertRefused(unload("nobody"), 404, "adapter_not_found");
      const calibrated = join(root, "calibrated");
      cpSync(join(model.dir, "apiq_init"), calibrated, { recursive: true });
      await assertRefused(load("x", "calibrated"), 400, "mode_required");
      rmSync(join(calibrated, "adapter_model.safetensors"));
      await assertRefused(load("x", "calibrated"), 400, "invalid_adapter");
    });

    it("more than fit come back when a request names them", async () => {
      for (const name of ["u", "v"]) assertEquals((await load(name, "first")).status, 200);
      const metrics = await (await fetch(`${server.url}/metrics`)).text();
      assertMatch(metrics, /apiq:adapters_resident\{[^}]*\} 2\n/);
      const answers = await Promise.all(["u", "v", "start", "u"].map(complete));
      assertEquals([answers[0], answers[0]], [answers[1], answers[3]]);
      assertNotEquals(answers[0], answers[2]);
      for (const name of ["u", "v"]) await unload(name);
    });

    it("that cannot come back, as their files are gone, are no fault of the requests that name them", async () => {
      cpSync(join(root, "first"), join(root, "gone"), { recursive: true });
      assertEquals((await load("gone", "gone")).status, 200);
      for (const name of ["u", "v"]) assertEquals((await load(name, "first")).status, 200);
      rmSync(join(root, "gone"), { recursive: true });
      const request = { model: "gone", prompt: "What is this?" };
      const message = await assertRefused(ask("/v1/completions", request), 503, "adapter_unavailable");
      assert(!message.includes(root), message);
      const body = JSON.stringify({ ...request, stream: true });
      const stream = await fetch(`${server.url}/v1/completions`, { method: "POST", body });
      assertStringIncludes(await stream.text(), message);
      assertMatch(server.output(), /warn.*adapter unavailable|adapter unavailable.*warn/i);
      for (const name of ["gone", "u", "v"]) await unload(name);
    });

    it("appear when their folder does in the watched one, and change when it does", async () => {
      const put = (from: string) => {
        cpSync(join(root, from), join(folder, "new"), { recursive: true });
        rmSync(join(watched, "seen"), { recursive: true, force: true });
        renameSync(join(folder, "new"), join(watched, "seen"));
      };
      const generation = async () => (await list()).find(({ lora_name }) => lora_name === "seen")?.generation ?? 0;
      put("first");
      await until(async () => (await generation()) > 0, "the folder is an adapter");
      const [first, answer] = [await generation(), await complete("seen")];
      put("second");
      await until(async () => (await generation()) > first, "the change is a generation");
      assertNotEquals(await complete("seen"), answer);
      await unload("seen");
    });

    it("are listed, loaded and unloaded by apiq adapters", async () => {
      const apiq = (...args: string[]) => runApiq(runtime, ["adapters", ...args, "--url", server.url]);
      const loaded = await apiq("load", "typed", "first", "--json");
      assertEquals((JSON.parse(loaded.stdout) as Listed).lora_path, join(root, "first"));
      assertMatch((await apiq("list")).stdout, /^typed +generation \d+ +rank 4 +14 linears/m);
      assertStringIncludes((await apiq("unload", "typed")).stdout, "is unloaded");
    });

    it("are there again after the engine process died, and readiness follows", async () => {
      await load("kept", "second");
      const before = [await complete("start"), await complete("kept")];
      process.kill(enginePid(server.pid), "SIGKILL");
      await until(async () => (await fetch(`${server.url}/ready`)).status === 503, "the death is noticed");
      await until(async () => (await fetch(`${server.url}/ready`)).status === 200, "the engine is ready again");
      assertEquals([await complete("start"), await complete("kept")], before);
      assertEquals((await unload("kept")).status, 200);
    });
  });
}

/** A request to load an adapter, and what came of it. */
interface Load {
  readonly name: string;
  readonly answer: Response;
}

describe("a load while another one runs", () => {
  const root = mkdtempSync(join(tmpdir(), "apiq-slow-adapters-"));
  writeFileSync(join(root, "adapter_config.json"), JSON.stringify({ ms: 3000 }));
  const server = useFakeServer("bun", ["--adapter-root", root]);
  afterAll(() => rmSync(root, { recursive: true }));

  it("is told when to come back, and changes nothing", async () => {
    const load = (name: string) => {
      const body = JSON.stringify({ lora_name: name, lora_path: root });
      return fetch(`${server.url}/v1/load_lora_adapter`, { method: "POST", body });
    };
    const answers = await Promise.all(["one", "other"].map(async (name) => ({ name, answer: await load(name) })));
    const [loaded, refused] = answers.sort((a, b) => a.answer.status - b.answer.status) as [Load, Load];
    assertEquals([loaded.answer.status, refused.answer.status], [200, 429]);
    assertEquals(refused.answer.headers.get("retry-after"), "2");
    assertEquals(((await refused.answer.json()) as Failed).error.code, "adapter_loading");
    const { data } = await server.client.models.list();
    assertEquals(
      [loaded, refused].map((one) => data.some(({ id }) => id === one.name)),
      [true, false],
    );
  });
});

describe("a server without folders to load from", () => {
  it("loads nothing, and says how to change that", async () => {
    using model = await createByteModel();
    const server = await startServerProcess("bun", ["--model", model.dir]);
    try {
      const body = JSON.stringify({ lora_name: "x", lora_path: "/tmp" });
      const response = await fetch(`${server.url}/v1/load_lora_adapter`, { method: "POST", body });
      const { error } = (await response.json()) as Failed;
      assertEquals([response.status, error.code], [403, "adapter_loading_disabled"]);
      assertStringIncludes(error.message, "--adapter-root DIR");
    } finally {
      await server.stop();
    }
  });
});

/** The child of a server that runs its engine. */
function enginePid(parent: number): number {
  const read = (pid: string, file: string) => {
    try {
      return readFileSync(`/proc/${pid}/${file}`, "utf8");
    } catch {
      return "";
    }
  };
  const isEngine = (pid: string) =>
    read(pid, "status").includes(`\nPPid:\t${parent}\n`) && read(pid, "cmdline").includes("engine/worker.ts");
  return Number(readdirSync("/proc").find((name) => /^\d+$/.test(name) && isEngine(name)));
}
