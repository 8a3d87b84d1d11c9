/** Loading and unloading leave nothing behind in the engine's process. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { AdapterRegistry } from "../../runtime/adapters/registry.ts";
import { EngineClient } from "../../runtime/engine/client.ts";
import { writeTinyAdapter } from "../fixtures/tiny_adapter.ts";
import { createTinyModel } from "../fixtures/tiny_model.ts";

/** The first ones fill heaps and thread stacks. `scripts/bench/adapters/cycles.ts` does a thousand. */
const WARM_UP = 30;
const CYCLES = 80;
const RANK = 128;

describe("loading and unloading an adapter again and again", () => {
  it("leaves resident memory where it was", async () => {
    using model = await createTinyModel();
    const folder = mkdtempSync(join(tmpdir(), "apiq-cycles-"));
    const client = new EngineClient({
      engine: {
        ...{ model: model.dir, device: "cpu", threads: 1, contextLength: 64, maxSequences: 1, kvMemory: undefined },
        ...{ activations: "f32", adapters: {}, hotAdapters: { max: 2, memory: undefined, maxRank: RANK } },
      },
    });
    const resident = () =>
      1024 * Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${client.pid}/status`, "utf8"))?.[1]);
    try {
      // Two megabytes, so that they show where they stay among what the runtime has not collected yet.
      await writeTinyAdapter(model.dir, folder, { rank: RANK });
      const registry = new AdapterRegistry("base", client);
      await client.ready();
      let bytes = 0;
      const cycle = async () => {
        bytes = (await registry.load({ name: "a", dir: folder })).bytes;
        registry.unload("a");
      };
      for (let i = 0; i < WARM_UP; i++) await cycle();
      const before = resident();
      for (let i = 0; i < CYCLES; i++) await cycle();
      const grown = resident() - before;
      assert(bytes > 2e6 && grown < (CYCLES / 3) * bytes, `${CYCLES} adapters of ${bytes} bytes left ${grown} bytes`);
      assertEquals((await client.stats()).adapters.bytes, 0);
    } finally {
      await client.close();
      rmSync(folder, { recursive: true });
    }
  });
});
