/** Adapters that come and go in an engine, with a real (tiny) model. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Engine } from "../../runtime/engine/engine.ts";
import { createByteModel } from "../fixtures/byte_model.ts";
import { writeTinyAdapter } from "../fixtures/tiny_adapter.ts";
import { createTinyModel, type TinyModel } from "../fixtures/tiny_model.ts";
import { until } from "../http/until.ts";
import { collect, LIMITS, loadTiny, openEngine, request, run, stepUntil, whileStepping } from "./engine.ts";

let tiny: TinyModel;
let folder: string;
/** By name: plain ones of several ranks, some of few linears, one with DoRA, one that replaces. */
const dirs: Record<string, string> = {};

beforeAll(async () => {
  tiny = await createTinyModel({ loraRank: 4 });
  folder = mkdtempSync(join(tmpdir(), "apiq-adapters-"));
  const write = async (name: string, options: Parameters<typeof writeTinyAdapter>[2]) => {
    dirs[name] = await writeTinyAdapter(tiny.dir, join(folder, name), options);
  };
  await write("a", { seed: 1 });
  await write("b", { seed: 2, rank: 16 });
  await write("c", { seed: 3, rank: 7, modules: ["q_proj", "v_proj"] });
  await write("dora", { seed: 4, rank: 3, dora: true });
  await write("rs", { seed: 5, rank: 8, rsLora: true, modules: ["down_proj"] });
});
afterAll(() => {
  tiny[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

/** What one adapter's request draws in an engine that was started with it and runs nothing else. */
async function alone(name: string | undefined): Promise<number[] | string | undefined> {
  using engine = openEngine(tiny.dir, { adapters: name === undefined ? {} : { only: dirs[name]! } });
  return (await run(engine, [request("r", name && "only")])).r;
}

describe("adapters loaded while the engine runs", () => {
  it("draw in one batch, with the base, the tokens that each draws alone", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, max: 8 } });
    const names = Object.keys(dirs);
    for (const name of names) {
      const found = await whileStepping(engine, engine.loadAdapter({ key: name, dir: dirs[name]! }));
      assertEquals([found.replaces, found.sha256.length], [false, 64]);
    }
    const requests = [request("base"), ...names.map((name) => request(name, name))];
    const together = await run(engine, requests);
    for (const name of [undefined, ...names]) assertEquals(together[name ?? "base"], await alone(name), name);
    assertEquals(new Set(Object.values(together).map(String)).size, requests.length, "adapters that change nothing");
  });

  it("are there for the requests after them, while those before go on as they began", async () => {
    using engine = openEngine(tiny.dir);
    await whileStepping(engine, engine.loadAdapter({ key: "x@1", dir: dirs.a! }));
    const first = request("first", "x@1");
    engine.add(first);
    const begun = await stepUntil(engine, () => engine.stats().generatedTokens > 2);
    const loaded = engine.loadAdapter({ key: "x@2", dir: dirs.b! });
    let ready = false;
    void loaded.then(() => {
      ready = true;
    });
    begun.push(...(await stepUntil(engine, () => ready)));
    engine.freeAdapter("x@1");
    const second = request("second", "x@2");
    engine.add(second);
    begun.push(...(await stepUntil(engine, () => !engine.hasWork())));
    const drawn = collect([first, second], begun);
    assertEquals([drawn.first, drawn.second], [await alone("a"), await alone("b")]);
    assertEquals(engine.stats().adapters.resident, 1, "the replaced one is gone with its request");
  });

  it("hold up no token while they are loaded, and have no step recorded again", async () => {
    const loaded = loadTiny(tiny.dir);
    const { context } = loaded;
    let recorded = 0;
    const record = context.record.bind(context);
    context.record = (body) => {
      recorded++;
      return record(body);
    };
    using engine = new Engine(loaded);
    const dir = await writeTinyAdapter(tiny.dir, join(folder, "heavy"), { rank: 16, dora: true });
    await whileStepping(engine, engine.loadAdapter({ key: "x@0", dir: dirs.a! }));
    engine.add(request("r", "x@0", { maxTokens: 200 }));
    await stepUntil(engine, () => engine.stats().generatedTokens > 1);
    const before = recorded;
    const { steps, generatedTokens } = engine.stats();
    for (const key of ["x@1", "x@2", "x@3"]) {
      await whileStepping(engine, engine.loadAdapter({ key, dir }));
      engine.freeAdapter(key);
    }
    const after = engine.stats();
    assert(after.steps > steps, "nothing ran meanwhile");
    assertEquals(after.generatedTokens - generatedTokens, after.steps - steps, "a step drew no token");
    engine.abort("r");
    await whileStepping(engine, engine.loadAdapter({ key: "y", dir }));
    await run(engine, [request("s", "y")]);
    assertEquals([before > 0, recorded], [true, before]);
  });

  it("take nothing from each other's prefixes in the cache", async () => {
    using engine = openEngine(tiny.dir);
    const expected = { a: await alone("a"), b: await alone("b") };
    for (const name of ["a", "b"] as const) {
      // The same slot, one after the other.
      await whileStepping(engine, engine.loadAdapter({ key: name, dir: dirs[name]! }));
      const outputs = await run(engine, [request("r", name)]);
      assertEquals(outputs.r, expected[name]);
      engine.freeAdapter(name);
    }
    assertEquals(engine.stats().sharedTokens, 0);
  });

  it("leave for others when there is no room, and return when a request names them", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, max: 1 } });
    for (const name of ["a", "b", "c"]) {
      await whileStepping(engine, engine.loadAdapter({ key: name, dir: dirs[name]! }));
      assertEquals(engine.stats().adapters.resident, 1);
    }
    const { a, b, c } = await run(engine, [request("a", "a"), request("b", "b"), request("c", "c")]);
    assertEquals([a, b, c], [await alone("a"), await alone("b"), await alone("c")]);
  });

  it("wait for room in the order in which their requests came, whatever else keeps coming", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, max: 1 } });
    for (const name of ["a", "b"]) await whileStepping(engine, engine.loadAdapter({ key: name, dir: dirs[name]! }));
    engine.add(request("b0", "b", { maxTokens: 40 }));
    await stepUntil(engine, () => engine.stats().generatedTokens > 1);
    engine.add(request("a0", "a"));
    // Others get in until its adapter is read and wants the room.
    const isHeldBack = () => {
      engine.add(request("b1", "b"));
      if (engine.stats().adapters.waiting.includes("b")) return true;
      engine.abort("b1");
      return false;
    };
    await until(isHeldBack, "a request that comes later is held back");
    const order: string[] = [];
    for (const output of await stepUntil(engine, () => !engine.hasWork())) if (output.finish) order.push(output.id);
    assertEquals(order, ["b0", "a0", "b1"]);
  });

  it("that wait for room count as waiting, and keep nobody busy while a grammar is compiled", async () => {
    using model = await createByteModel();
    const dir: Record<string, string> = {};
    for (const name of ["a", "b"]) dir[name] = await writeTinyAdapter(model.dir, join(model.dir, name), { seed: 1 });
    using engine = openEngine(model.dir, { hotAdapters: { ...LIMITS, max: 1 } });
    for (const key of ["a", "b"]) await whileStepping(engine, engine.loadAdapter({ key, dir: dir[key]! }));
    engine.add(request("b", "b", { grammar: { type: "ebnf", grammar: "root ::= [a-z]{40}" } }));
    engine.add(request("a", "a"));
    assertEquals([engine.stats().running, engine.stats().waiting], [0, 2]);
    let steps = 0;
    const begun = await stepUntil(engine, () => engine.stats().generatedTokens > 0 || steps++ > 50);
    assertEquals([engine.stats().running, engine.stats().waiting], [1, 1], `${steps} steps without a token`);
    const ended = [...begun, ...(await stepUntil(engine, () => !engine.hasWork()))];
    assertEquals(
      ended.flatMap(({ id, finish }) => (finish ? [[id, finish]] : [])),
      [
        ["b", "length"],
        ["a", "length"],
      ],
    );
    assertEquals(engine.stats().waiting, 0);
  });

  it("that were changed since they were loaded do not come back as something else", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, max: 1 } });
    const dir = await writeTinyAdapter(tiny.dir, join(folder, "changing"), { seed: 8 });
    await whileStepping(engine, engine.loadAdapter({ key: "changing", dir }));
    await whileStepping(engine, engine.loadAdapter({ key: "b", dir: dirs.b! }));
    await writeTinyAdapter(tiny.dir, dir, { seed: 9 });
    engine.add(request("r", "changing"));
    const [output] = await stepUntil(engine, () => !engine.hasWork());
    assertStringIncludes(String(output?.error), "have changed since it was loaded");
    assertEquals([output?.finish, output?.unavailable], ["error", true]);
    await writeTinyAdapter(tiny.dir, dir, { seed: 8 });
    assertEquals((await run(engine, [request("r", "changing")])).r?.length, 12);
  });

  it("are known to an engine that follows a dead one, and come back by themselves or on demand", async () => {
    const known = [];
    {
      using engine = openEngine(tiny.dir);
      for (const key of ["a", "dora"]) {
        const found = await whileStepping(engine, engine.loadAdapter({ key, dir: dirs[key]! }));
        known.push({ key, dir: dirs[key]!, mode: "stack" as const, found });
      }
    }
    using engine = openEngine(tiny.dir);
    engine.knowAdapters(known);
    assertEquals((await run(engine, [request("r", "dora")])).r, await alone("dora"));
    await stepUntil(engine, () => !engine.hasWork());
    assertEquals(engine.stats().adapters.resident, 2);
  });

  it("free their requests' places when those are aborted before they are there", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, max: 1 } });
    for (const name of ["a", "b"]) await whileStepping(engine, engine.loadAdapter({ key: name, dir: dirs[name]! }));
    engine.add(request("b", "b"));
    engine.add(request("a", "a"));
    engine.abort("a");
    engine.abort("b");
    await stepUntil(engine, () => !engine.hasWork());
    assertEquals(engine.stats().adapters.running, []);
    assertEquals((await run(engine, [request("r", "a")])).r, await alone("a"));
  });

  it("go with their last request when they were freed", async () => {
    using engine = openEngine(tiny.dir);
    await whileStepping(engine, engine.loadAdapter({ key: "a", dir: dirs.a! }));
    const { bytes } = engine.stats().adapters;
    assert(bytes > 0);
    engine.add(request("r", "a"));
    engine.step();
    engine.freeAdapter("a");
    assertEquals(engine.stats().adapters.bytes, bytes);
    await stepUntil(engine, () => !engine.hasWork());
    assertEquals([engine.stats().adapters.bytes, engine.stats().adapters.resident], [0, 0]);
    assertEquals(
      String(await assertRejects(async () => engine.add(request("s", "a")))),
      "Error: Cannot add request s: no adapter a",
    );
  });

  it("are refused with the reason, and leave everything as it was", async () => {
    using engine = openEngine(tiny.dir, { hotAdapters: { ...LIMITS, maxRank: 8, memory: 1 << 16 } });
    const load = (dir: string) => whileStepping(engine, engine.loadAdapter({ key: "bad", dir }));
    const copy = (name: string, options = {}) => writeTinyAdapter(tiny.dir, join(folder, name), options);
    const truncated = await copy("truncated");
    truncateSync(join(truncated, "adapter_model.safetensors"), 5000);
    const pickled = await copy("pickled");
    rmSync(join(pickled, "adapter_model.safetensors"));
    writeFileSync(join(pickled, "adapter_model.bin"), "");
    const other = await copy("other", { binding: { base: "0".repeat(64), replaces: true } });
    const endless = await copy("endless", { size: Number.POSITIVE_INFINITY });
    const large = await copy("large", { rank: 8 });
    for (const [dir, reason] of [
      [join(folder, "nowhere"), "it does not exist"],
      [truncated, "data_offsets reach outside the file"],
      [pickled, "loading a pickle runs code"],
      [other, "trained on another model"],
      [endless, "bad value at index 0"],
      [dirs.b!, "expected at most 8 (--max-adapter-rank)"],
      [large, "(--adapter-memory)"],
    ] as const) {
      const error = await assertRejects(() => load(dir), Error);
      assertStringIncludes(String(error), reason);
    }
    assertEquals([engine.stats().adapters.bytes, engine.hasWork()], [0, false]);
    await whileStepping(engine, engine.loadAdapter({ key: "bad", dir: dirs.rs! }));
    assertEquals((await run(engine, [request("r", "bad")])).r, await alone("rs"));
  });
});

describe("an adapter and the calibrated LoRA", () => {
  it("stack or not, as apiq.json or the mode says", async () => {
    using engine = openEngine(tiny.dir);
    const load = (key: string, dir: string, mode?: "replace" | "stack") =>
      whileStepping(engine, engine.loadAdapter({ key, dir, ...(mode && { mode }) }));
    const binding = { base: engine.model.fingerprint, replaces: true };
    const bound = await writeTinyAdapter(tiny.dir, join(folder, "bound"), { seed: 1, binding });
    assertEquals((await load("bound", bound)).replaces, true);
    assertEquals((await load("stacked", dirs.a!, "stack")).replaces, false);
    assertEquals((await load("replacing", dirs.a!, "replace")).replaces, true);
    const drawn = await run(
      engine,
      ["bound", "stacked", "replacing"].map((key) => request(key, key)),
    );
    assertEquals(drawn.bound, drawn.replacing);
    assertNotEquals(drawn.bound, drawn.stacked);
    const error = await assertRejects(() => load("neither", bound, "stack"), Error);
    assertStringIncludes(String(error), 'mode received "stack", expected "replace"');
  });

  it("ask for the mode where the one resembles the other", async () => {
    using engine = openEngine(tiny.dir);
    const dir = join(tiny.dir, "apiq_init");
    const error = await assertRejects(() => whileStepping(engine, engine.loadAdapter({ key: "x", dir })), Error);
    assertEquals([error.name, String(error).includes("cosine 1.000")], ["ModeNeededError", true]);
    await whileStepping(engine, engine.loadAdapter({ key: "x", dir, mode: "replace" }));
    const { base, x } = await run(engine, [request("base"), request("x", "x")]);
    assertEquals(x, base);
  });
});
