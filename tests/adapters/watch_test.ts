import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { assertEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { AdapterRegistry } from "../../runtime/adapters/registry.ts";
import { AdapterWatch } from "../../runtime/adapters/watch.ts";
import type { AdapterSpec } from "../../runtime/engine/protocol.ts";
import { until } from "../http/until.ts";

const LOOK_MS = 20;

describe("a watched folder", () => {
  let folder: string;
  let watched: string;
  let registry: AdapterRegistry;
  let watch: AdapterWatch;
  let refused: string[];
  let loads: string[];

  beforeEach(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), "apiq-watch-")));
    watched = join(folder, "watched");
    mkdirSync(watched);
    refused = [];
    loads = [];
    registry = new AdapterRegistry("base", {
      async loadAdapter({ key, dir }: AdapterSpec) {
        loads.push(`${key} ${dir}`);
        if (dir.endsWith("bad")) throw new Error("bad adapter");
        return { sha256: "", bytes: 1, rank: 1, targets: 1, replaces: false };
      },
      freeAdapter() {},
    });
    watch = await AdapterWatch.start({
      dir: watched,
      registry,
      everyMs: LOOK_MS,
      onLoaded() {},
      onRefused: (name) => refused.push(name),
    });
  });
  afterEach(() => {
    watch[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });

  const put = (dir: string) => {
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, "adapter_config.json"), "{}");
    writeFileSync(join(dir, "adapter_model.safetensors"), "");
  };
  const generation = (name: string) => registry.get(name)?.generation;
  const severalLooks = () => setTimeout(6 * LOOK_MS);

  it("makes an adapter of a folder that appears, and a new generation when one of its files changes", async () => {
    put(join(watched, "a"));
    await until(() => generation("a") === 1, "a is loaded");
    await severalLooks();
    assertEquals(loads, [`a@1 ${join(watched, "a")}`]);
    writeFileSync(join(watched, "a", "apiq.json"), "{}");
    await until(() => generation("a") === 2, "a is loaded again");
    put(join(folder, "next"));
    renameSync(join(watched, "a"), join(folder, "old"));
    renameSync(join(folder, "next"), join(watched, "a"));
    await until(() => generation("a") === 3, "the folder that took its place is loaded");
    rmSync(join(watched, "a"), { recursive: true });
    await severalLooks();
    assertEquals(generation("a"), 3);
  });

  it("takes nothing that is half there or still being written", async () => {
    mkdirSync(join(watched, "a"));
    writeFileSync(join(watched, "a", "adapter_config.json"), "{}");
    writeFileSync(join(watched, "file"), "");
    for (const name of ["math.partial", ".hidden"]) put(join(watched, name));
    await severalLooks();
    const weights = join(watched, "a", "adapter_model.safetensors");
    for (const end = performance.now() + 8 * LOOK_MS; performance.now() < end; ) {
      appendFileSync(weights, "x");
      await setTimeout(LOOK_MS / 4);
    }
    assertEquals(loads, []);
    await until(() => generation("a") === 1, "a is whole");
  });

  it("says once what cannot be loaded, and tries again when it has changed", async () => {
    put(join(watched, "bad"));
    await until(() => refused.length > 0, "it is refused");
    await severalLooks();
    assertEquals([refused, loads.length], [["bad"], 1]);
    appendFileSync(join(watched, "bad", "adapter_config.json"), " ");
    await until(() => refused.length === 2, "it is refused again");
  });

  it("leaves names alone that others gave, and folders that lie elsewhere", async () => {
    put(join(folder, "other"));
    await registry.load({ name: "a", dir: join(folder, "other") });
    put(join(watched, "a"));
    symlinkSync(join(folder, "other"), join(watched, "link"));
    put(join(watched, "base"));
    await until(() => refused.length === 3, "all are refused");
    assertEquals([refused.sort(), generation("a"), loads.length], [["a", "base", "link"], 1, 1]);
  });

  it("waits while another adapter is being loaded, and for a folder that is not there", async () => {
    cpSync(watched, join(folder, "copy"), { recursive: true });
    rmSync(watched, { recursive: true });
    await severalLooks();
    renameSync(join(folder, "copy"), watched);
    let finish = () => {};
    const engine = {
      loadAdapter: async () => {
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        return { sha256: "", bytes: 1, rank: 1, targets: 1, replaces: false };
      },
      freeAdapter() {},
    };
    const busy = new AdapterRegistry("base", engine);
    using _ = await AdapterWatch.start({
      dir: watched,
      registry: busy,
      everyMs: LOOK_MS,
      onLoaded() {},
      onRefused: (name) => refused.push(name),
    });
    const other = busy.load({ name: "other", dir: "x" });
    put(join(watched, "a"));
    await severalLooks();
    finish();
    await other;
    await until(() => {
      finish();
      return busy.get("a") !== undefined;
    }, "a is loaded");
    assertEquals(refused, []);
  });
});
