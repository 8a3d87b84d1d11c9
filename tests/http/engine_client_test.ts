/** The engine process around a fake engine: what EngineClient promises when all goes well and when it does not. */
import process from "node:process";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { EngineClient, EngineRequestError, EngineUnavailableError } from "../../runtime/engine/client.ts";
import { type EngineOutput, type EngineRequest, GREEDY } from "../../runtime/engine/protocol.ts";
import { createFakeModel, MESSAGE_END, MESSAGE_START } from "./fake_model.ts";
import { until } from "./until.ts";

describe("EngineClient", () => {
  let model: ReturnType<typeof createFakeModel>;
  const clients: EngineClient[] = [];

  beforeEach(() => {
    model = createFakeModel();
  });
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    model.remove();
  });

  function start(dir = model.dir): EngineClient {
    const client = new EngineClient({
      engine: {
        model: dir,
        device: "auto",
        threads: 1,
        contextLength: undefined,
        maxSequences: 4,
        kvMemory: undefined,
        activations: "auto",
        adapters: {},
      },
      engineModule: new URL("./fake_engine.ts", import.meta.url).href,
      backoffMs: 20,
    });
    clients.push(client);
    return client;
  }

  it("loads, generates and counts", async () => {
    const client = start();
    assertEquals(client.state.status, "loading");
    assertEquals((await client.ready()).device, "fake");
    const outputs = await Array.fromAsync(client.generate(request("a", "say hey")));
    assertEquals(bytesOf(outputs), "hey");
    assertEquals(outputs.at(-1)?.finish, "stop");
    const stats = await client.stats();
    assertEquals([stats.running, stats.generatedTokens], [0, 4]);
  });

  it("runs requests side by side and keeps them apart", async () => {
    const client = start();
    await client.ready();
    const texts = ["alpha", "be", "gamma delta", ""];
    const answers = await Promise.all(
      texts.map((text, index) => Array.fromAsync(client.generate(request(`r${index}`, `say ${text}`)))),
    );
    assertEquals(answers.map(bytesOf), texts);
  });

  it("refuses a request the engine refuses, and one whose id is in use", async () => {
    const client = start();
    await client.ready();
    await assertRejects(
      () => Array.fromAsync(client.generate(request("a", "refuse"))),
      EngineRequestError,
      "asked to refuse",
    );
    const running = client.generate(request("b", "forever"));
    await running.next();
    await assertRejects(() => Array.fromAsync(client.generate(request("b", "say x"))), Error, "in use");
    await running.return();
  });

  it("aborts within a step when the loop is left or the signal is aborted, even before the first token is read", async () => {
    const client = start();
    await client.ready();
    for await (const output of client.generate(request("a", "forever"))) if (output.tokens.length > 0) break;
    await until(async () => (await client.stats()).running === 0, "the request left by break is gone");

    const controller = new AbortController();
    const outputs = Array.fromAsync(client.generate(request("b", "forever"), controller.signal));
    await until(async () => (await client.stats()).running === 1, "the request runs");
    const before = (await client.stats()).steps;
    controller.abort();
    assert((await outputs).every(({ finish }) => finish === undefined));
    const after = await client.stats();
    assertEquals(after.running, 0);
    assert(after.steps - before <= 20, `the engine went on for ${after.steps - before} steps`);
  });

  it("gives a reader that was busy everything at once", async () => {
    const client = start();
    await client.ready();
    const reader = client.generate(request("a", "say 0123456789"));
    await reader.next();
    await until(async () => (await client.stats()).running === 0, "the engine is done");
    const { value } = await reader.next();
    assert(value && value.tokens.length >= 5 && value.finish === "stop");
  });

  it("reports why a model cannot be loaded, and does not try again", async () => {
    const client = start(`${model.dir}/absent`);
    await assertRejects(() => client.ready(), EngineUnavailableError, "no config.json");
    assertEquals(client.state.status, "failed");
    await assertRejects(() => Array.fromAsync(client.generate(request("a", "say x"))), EngineUnavailableError);
  });

  it("fails what ran when the engine dies, and restarts it", async () => {
    const client = start();
    await client.ready();
    const firstPid = client.pid;
    const bystander = Array.fromAsync(client.generate(request("a", "forever")));
    await assertRejects(() => Array.fromAsync(client.generate(request("b", "die"))), EngineUnavailableError, "SIGKILL");
    await assertRejects(() => bystander, EngineUnavailableError, "stopped while it ran this request");
    assertEquals(client.state.status, "restarting");
    await client.ready();
    assert(client.pid !== firstPid);
    assertEquals(bytesOf(await Array.fromAsync(client.generate(request("a", "say again")))), "again");
  });

  it("waits longer after each death in a row", async () => {
    const client = start();
    const waits: number[] = [];
    for (let round = 0; round < 3; round++) {
      await client.ready();
      const died = performance.now();
      await assertRejects(() => Array.fromAsync(client.generate(request(`r${round}`, "die"))), EngineUnavailableError);
      const { state } = client;
      assert(state.status === "restarting");
      assertEquals(state.crashes, round + 1);
      await until(() => client.state.status === "loading" || client.state.status === "ready", "it is started again");
      waits.push(performance.now() - died);
    }
    assert((waits[2] ?? 0) > 80 - 1, `the third wait took ${waits[2]} ms`);
  });

  it("leaves no process behind", async () => {
    const client = start();
    await client.ready();
    const pid = client.pid ?? 0;
    const running = Array.fromAsync(client.generate(request("a", "forever")));
    const failed = assertRejects(() => running, EngineUnavailableError, "closed");
    await client.close();
    await failed;
    const error = await assertRejects(async () => process.kill(pid, 0), Error);
    assertStringIncludes(error.message, "ESRCH");
  });
});

function request(id: string, message: string): EngineRequest {
  const chat = [MESSAGE_START, ...Buffer.from(`user\n${message}`), MESSAGE_END, MESSAGE_START];
  return { id, prompt: chat, maxTokens: 100_000, stopTokens: [MESSAGE_END], sampling: GREEDY };
}

function bytesOf(outputs: readonly EngineOutput[]): string {
  const tokens = outputs.flatMap((output) => [...output.tokens]).filter((token) => token < 256);
  return new TextDecoder().decode(new Uint8Array(tokens));
}
