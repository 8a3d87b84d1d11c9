/** Adapters made by peft, loaded into a model that runs: the same logits as in PyTorch, whatever was in their place before. */
import { setImmediate } from "node:timers/promises";
import { assert, assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { AdapterStore } from "../../runtime/engine/adapter_store.ts";
import { goldenModel, largestDifference, logitsOf, readFloats, readIds } from "../golden/load.ts";
import { itShared, sharedPath } from "../shared.ts";

const ADAPTERS = ["all_r8", "qv_r4", "rslora_r16", "rank_pattern", "dora_r8"];
const base = sharedPath("golden/peft/base");

const idsOf = (folder: string) => readIds(`${folder}/expected.safetensors`, "input_ids").values;
const logitsIn = (folder: string) => readFloats(`${folder}/expected.safetensors`, "logits").values;

function open(max: number) {
  const loaded = goldenModel(base, { hotAdapters: { max, memory: 1 << 20, maxRank: 16 } });
  const store = new AdapterStore<string>(loaded.context, loaded.lora, loaded.adapterHost, loaded.adapterSlots);
  return { loaded, store };
}

async function load(store: AdapterStore<string>, name: string): Promise<void> {
  let isLoading = true;
  const loading = store.load({ key: name, dir: sharedPath(`golden/peft/${name}`) }).finally(() => {
    isLoading = false;
  });
  while (isLoading) {
    store.advance();
    await setImmediate();
  }
  await loading;
}

describe("peft's adapters, loaded while the model runs", () => {
  itShared("give peft's logits, one after the other in one slot", async () => {
    const { loaded, store } = open(1);
    using _loaded = loaded;
    using _store = store;
    // Twice, so that each follows others whose bytes are still in its place.
    for (const name of [...ADAPTERS, ...ADAPTERS.slice().reverse()]) {
      await load(store, name);
      const slot = store.use(name, "test")!;
      const folder = sharedPath(`golden/peft/${name}`);
      const difference = largestDifference(logitsOf(loaded, idsOf(folder), slot), logitsIn(folder));
      assert(difference < 1e-4, `${name}: logits differ by ${difference}`);
      store.release("test");
      store.free(name);
    }
    assert(largestDifference(logitsOf(loaded, idsOf(base)), logitsIn(base)) < 1e-4, "the base has changed");
  });

  itShared("give the bits that they give when they are loaded with the model", async () => {
    const { loaded, store } = open(ADAPTERS.length);
    using _loaded = loaded;
    using _store = store;
    for (const name of ADAPTERS) await load(store, name);
    for (const name of ADAPTERS) {
      const folder = sharedPath(`golden/peft/${name}`);
      using alone = goldenModel(base, { adapters: { [name]: folder } });
      const ids = idsOf(folder);
      assertEquals(logitsOf(loaded, ids, store.use(name, name)!), logitsOf(alone, ids, 1), name);
    }
  });
});
