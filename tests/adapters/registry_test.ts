/** What names stand for while adapters are loaded, replaced and unloaded, with an engine that does as it is told. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { AdapterError, type AdapterRefusal } from "../../runtime/adapters/failure.ts";
import { AdapterRegistry } from "../../runtime/adapters/registry.ts";
import type { AdapterFinding, AdapterSpec } from "../../runtime/engine/protocol.ts";

const FOUND: AdapterFinding = { sha256: "0".repeat(64), bytes: 64, rank: 4, targets: 2, replaces: true };

/** Notes what it is told; loads of the folder "slow" end when `finish` is called, those of "bad" fail. */
function fakeEngine() {
  const told: string[] = [];
  const slow = Promise.withResolvers<void>();
  return {
    told,
    finish: slow.resolve,
    async loadAdapter({ key, dir }: AdapterSpec): Promise<AdapterFinding> {
      if (dir === "slow") await slow.promise;
      if (dir === "bad") throw new Error("bad adapter");
      told.push(`load ${key}`);
      return FOUND;
    },
    freeAdapter: (key: string) => void told.push(`free ${key}`),
  };
}

async function assertRefused(work: () => Promise<unknown>, reason: AdapterRefusal): Promise<void> {
  const error = await assertRejects(work, AdapterError);
  assertEquals((error as AdapterError).reason, reason);
}

describe("AdapterRegistry", () => {
  it("gives every load a generation of its own, and each name its newest", async () => {
    const engine = fakeEngine();
    const registry = new AdapterRegistry("base", engine);
    const a = await registry.load({ name: "a", dir: "x" });
    const b = await registry.load({ name: "b", dir: "y", mode: "replace" });
    const again = await registry.load({ name: "a", dir: "x", inPlace: true });
    assertEquals([a.generation, b.generation, again.generation], [1, 2, 3]);
    assertEquals([a.mode, a.rank, a.bytes, a.key], ["replace", 4, 64, "a@1"]);
    assertEquals(registry.list(), [again, b]);
    assertEquals(registry.get("a"), again);
    assertEquals(engine.told, ["load a@1", "load b@2", "load a@3", "free a@1"]);
  });

  it("keeps a generation for those that began with it, also when its name is gone", async () => {
    const engine = fakeEngine();
    const registry = new AdapterRegistry("base", engine);
    await registry.load({ name: "a", dir: "x" });
    const [first, second] = [registry.lease("a")!, registry.lease("a")!];
    await registry.load({ name: "a", dir: "x", inPlace: true });
    const third = registry.lease("a")!;
    registry.unload("a");
    assertEquals([first.adapter.generation, third.adapter.generation, registry.lease("a")], [1, 2, undefined]);
    assertEquals(
      registry.known().map(({ key }) => key),
      ["a@1", "a@2"],
    );
    first.release();
    first.release();
    assert(!engine.told.includes("free a@1"), "a lease was counted twice");
    second.release();
    third.release();
    assertEquals(engine.told.slice(2), ["free a@1", "free a@2"]);
    assertEquals(registry.known(), []);
  });

  it("refuses names that cannot be, and a second load that does not say that it replaces", async () => {
    const registry = new AdapterRegistry("base", fakeEngine());
    for (const name of ["base", "", " a", "a b", "a\n", "a".repeat(129), "../a", "-a", 'a"']) {
      await assertRefused(() => registry.load({ name, dir: "x" }), "bad_name");
    }
    for (const name of ["a", "org/model-1.2", "日本語", "a@b:c+d"]) await registry.load({ name, dir: "x" });
    await assertRefused(() => registry.load({ name: "a", dir: "x" }), "exists");
    const { reason, message } = assertThrows(() => registry.unload("b"), AdapterError) as AdapterError;
    assertEquals(reason, "unknown_name");
    assertStringIncludes(message, "loaded are a, org/model-1.2");
  });

  it("changes a name only at the generation that is expected", async () => {
    const registry = new AdapterRegistry("base", fakeEngine());
    await assertRefused(() => registry.load({ name: "a", dir: "x", expected: 1 }), "conflict");
    const { generation } = await registry.load({ name: "a", dir: "x", expected: 0 });
    await assertRefused(
      () => registry.load({ name: "a", dir: "x", inPlace: true, expected: generation + 1 }),
      "conflict",
    );
    const next = await registry.load({ name: "a", dir: "x", inPlace: true, expected: generation });
    const error = assertThrows(() => registry.unload("a", generation), AdapterError);
    assertStringIncludes(
      String(error),
      `generation ${generation} was expected, it is at generation ${next.generation}`,
    );
    registry.unload("a", next.generation);
    assertEquals(registry.list(), []);
  });

  it("loads one at a time, and not over what changed meanwhile", async () => {
    const engine = fakeEngine();
    const registry = new AdapterRegistry("base", engine);
    await registry.load({ name: "a", dir: "x" });
    const loading = registry.load({ name: "a", dir: "slow", inPlace: true });
    await assertRefused(() => registry.load({ name: "b", dir: "x" }), "busy");
    registry.unload("a");
    engine.finish();
    await assertRefused(() => loading, "conflict");
    assertEquals([registry.list(), engine.told.slice(1)], [[], ["free a@1", "load a@2", "free a@2"]]);
    await registry.load({ name: "b", dir: "x" });
  });

  it("is as before after a load that failed", async () => {
    const registry = new AdapterRegistry("base", fakeEngine());
    const before = await registry.load({ name: "a", dir: "x" });
    await assertRejects(() => registry.load({ name: "a", dir: "bad", inPlace: true }), Error, "bad adapter");
    assertEquals(registry.list(), [before]);
    assertEquals((await registry.load({ name: "b", dir: "x" })).generation, 3);
  });
});
