import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ENGINE_FLAGS, engineOptions } from "../../runtime/cli/engine_flags.ts";
import { parseArguments } from "../../runtime/cli/flags.ts";
import { ADAPTER_FLAGS, type ModelFlagValues, servedModelOptions } from "../../serve/adapters/flags.ts";

const FLAGS = { model: { type: "string", summary: "" }, ...ADAPTER_FLAGS, ...ENGINE_FLAGS } as const;

// What parseArguments makes of these specs is what their values' type says.
const parse = (...args: string[]) => parseArguments({ flags: FLAGS }, args).flags as unknown as ModelFlagValues;

describe("adapters on the command line", () => {
  it("are folders, with what becomes of the calibrated LoRA behind a colon", () => {
    const given = ["a=dir", "b=dir:replace", "c=with:colon:stack", "d=dir:other", "e=x=y"];
    const { adapters, adapterModes } = engineOptions("model", parse(...given.flatMap((text) => ["--adapter", text])));
    assertEquals(adapters, { a: "dir", b: "dir", c: "with:colon", d: "dir:other", e: "x=y" });
    assertEquals(adapterModes, { b: "replace", c: "stack" });
    for (const bad of ["a", "=dir", "a="])
      assertThrows(() => engineOptions("model", parse("--adapter", bad)), Error, bad);
  });

  it("get room in the engine where any can come, and only there", async () => {
    const room = async (...args: string[]) =>
      (await servedModelOptions(parse("--model", "m", ...args)))?.engine.engine.hotAdapters;
    assertEquals(await room(), undefined);
    const defaults = { max: 16, memory: undefined, maxRank: 64 };
    assertEquals(await room("--adapter", "a=dir"), defaults);
    assertEquals(await room("--watch", "/tmp"), defaults);
    const limits = ["--max-adapters", "3", "--adapter-memory", "2M", "--max-adapter-rank", "8"];
    assertEquals(await room("--adapter-root", "/", ...limits), { max: 3, memory: 2 << 20, maxRank: 8 });
  });

  it("need a model, and roots that are folders", async () => {
    assertEquals(await servedModelOptions(parse()), undefined);
    await assertRejects(() => servedModelOptions(parse("--watch", "/tmp")), Error, "without --model");
    const nowhere = parse("--model", "m", "--adapter-root", "/nowhere");
    await assertRejects(() => servedModelOptions(nowhere), Error, "/nowhere: it is not a folder");
  });
});
