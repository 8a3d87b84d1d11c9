import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB, type TinyModel } from "../../tests/fixtures/tiny_model.ts";
import { goldenModel, largestDifference, logitsOf } from "../../tests/golden/load.ts";
import { FormatError, openAdapter, openCheckpoint } from "../formats/mod.ts";
import { inFolder } from "../formats/test_files.ts";
import { exportMerged, type JoinOptions, joinAdapters } from "./merge.ts";
import { type AdapterShape, distance, product, SHAPES, sumOf, writeTestAdapter } from "./test_adapters.ts";

const TOKENS = Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % TINY_VOCAB);
const ALL = Object.keys(SHAPES);
const MODULES = [0, 1].flatMap((layer) => ALL.map((part) => `model.layers.${layer}.${part}`));

const shape = (seed: number, rest: Partial<AdapterShape> = {}): AdapterShape => {
  return { rank: 4, alpha: 6, parts: ALL, seed, ...rest };
};

/** Runs `body` with a tiny model, its fingerprint, and what writes adapters and joins them in a folder of their own. */
async function withModel(
  body: (test: {
    tiny: TinyModel;
    dir: string;
    base: string;
    adapter: (name: string, shape: AdapterShape) => Promise<string>;
    merge: (adapters: readonly (readonly [string, number])[], rest?: Partial<JoinOptions>) => JoinOptions;
  }) => Promise<void>,
): Promise<void> {
  await inFolder(async (dir) => {
    using tiny = await createTinyModel({ loraRank: 4 });
    await body({
      tiny,
      dir,
      base: openCheckpoint(tiny.dir).fingerprint,
      adapter: (name, given) => writeTestAdapter(join(dir, name), given),
      merge: (adapters, rest = {}) => ({
        model: tiny.dir,
        adapters: adapters.map(([name, weight]) => ({ dir: join(dir, name), weight })),
        out: join(dir, "out"),
        mode: null,
        rank: null,
        ...rest,
      }),
    });
  });
}

function assertProducts(out: string, expected: (module: string) => Float64Array, tolerance = 1e-6): void {
  const joined = openAdapter(out);
  for (const module of MODULES) {
    const off = distance(product(joined, module), expected(module));
    assert(off < tolerance, `${module}: off by ${off}`);
  }
}

describe("joinAdapters", () => {
  it("adds up adapters of other ranks, scales, patterns and linears", () =>
    withModel(async ({ adapter, merge, base }) => {
      const one = openAdapter(await adapter("one", shape(1, { rsLora: true })));
      const ranks = { rank_pattern: { v_proj: 2 }, alpha_pattern: { down_proj: 1 } };
      const two = openAdapter(
        await adapter("two", shape(2, { rank: 3, ranks: { "self_attn.v_proj": 2 }, config: ranks })),
      );
      const three = openAdapter(await adapter("three", shape(3, { rank: 1, parts: ["mlp.down_proj"] })));
      const options = merge([
        ["one", 1],
        ["two", -0.5],
        ["three", 2],
      ]);
      const result = await joinAdapters(options);
      assertEquals([result.linears, result.rank, result.replaces, result.kept], [6, 8, false, null]);
      assertEquals(openAdapter(options.out).binding, { base, replaces: false });
      assertProducts(options.out, (module) =>
        sumOf(product(one, module), product(two, module, -0.5), product(three, module, 2)),
      );
      assertEquals(
        MODULES.slice(0, 3).map((module) => openAdapter(options.out).targets.get(module)?.rank),
        [7, 6, 8],
      );
    }));

  it("cuts to a rank, and keeps linears that have no more than that", () =>
    withModel(async ({ adapter, merge }) => {
      const one = openAdapter(await adapter("one", shape(1)));
      const two = openAdapter(await adapter("two", shape(2, { parts: ["self_attn.q_proj"] })));
      const options = merge(
        [
          ["one", 1],
          ["two", 1],
        ],
        { rank: 4 },
      );
      const { rank, kept } = await joinAdapters(options);
      assertEquals(rank, 4);
      assert(kept !== null && kept > 0.5 && kept < 1, `kept ${kept}`);
      const joined = openAdapter(options.out);
      for (const module of MODULES) {
        const whole = sumOf(product(one, module), product(two, module));
        const off = distance(product(joined, module), whole);
        if (module.endsWith("q_proj")) assertAlmostEquals(off ** 2, 1 - kept, 0.05);
        else assert(off < 1e-7, `${module}: off by ${off}`);
      }
    }));

  it("cuts a single adapter too", () =>
    withModel(async ({ adapter, merge }) => {
      await adapter("one", shape(1));
      const result = await joinAdapters(merge([["one", 1]], { rank: 2 }));
      assertEquals([result.rank, result.linears], [2, 6]);
    }));

  it("counts the calibrated LoRA once, however many adapters contain it", () =>
    withModel(async ({ tiny, adapter, merge, base }) => {
      const calibrated = openAdapter(join(tiny.dir, "apiq_init"));
      const binding = { base, replaces: true };
      const one = openAdapter(await adapter("one", shape(1, { binding })));
      const two = openAdapter(await adapter("two", shape(2, { binding })));
      const three = openAdapter(await adapter("three", shape(3)));
      const options = merge([
        ["one", 1],
        ["two", 0.25],
        ["three", 2],
      ]);
      const { replaces } = await joinAdapters(options);
      assert(replaces);
      assertEquals(openAdapter(options.out).binding, binding);
      assertProducts(options.out, (module) => {
        const changes = [product(one, module), product(two, module, 0.25), product(calibrated, module, -1.25)];
        return sumOf(product(calibrated, module), ...changes, product(three, module, 2));
      });
      // A mean contains it once as it is.
      rmSync(options.out, { recursive: true });
      const halves = merge([
        ["one", 0.5],
        ["two", 0.5],
      ]);
      const mean = await joinAdapters(halves);
      assertEquals(mean.rank, 8);
      assertProducts(options.out, (module) => sumOf(product(one, module, 0.5), product(two, module, 0.5)));
    }));

  it("serves the same as the adapters' sum in the weights", () =>
    withModel(async ({ tiny, dir, adapter, merge, base }) => {
      await adapter("one", shape(1, { binding: { base, replaces: true } }));
      await adapter("two", shape(2));
      const options = merge([
        ["one", 1],
        ["two", 0.5],
      ]);
      await joinAdapters(options);
      await exportMerged({ ...options, out: join(dir, "dense"), dtype: "float32" });
      using beside = goldenModel(tiny.dir, { adapters: { joined: options.out } });
      using inside = goldenModel(join(dir, "dense"));
      const [actual, expected] = [logitsOf(beside, TOKENS, 1), logitsOf(inside, TOKENS)];
      const spread = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
      const off = largestDifference(actual, expected) / spread;
      assert(off < 1e-4, `logits differ by ${off} of their spread`);
      assert(largestDifference(logitsOf(beside, TOKENS), expected) > 0.1 * spread);
    }));

  it("says why one adapter cannot go into packed weights, and what can be done", () =>
    withModel(async ({ adapter, merge }) => {
      await adapter("one", shape(1));
      const options = merge([["one", 1]]);
      const { message } = await assertRejects(() => joinAdapters(options), Error, "Cannot merge");
      for (const part of ["packed in 2 bits", "--export-fp16", "apiq serve --adapter", "--method svd"]) {
        assertStringIncludes(message, part);
      }
      assert(!existsSync(options.out));
    }));

  it("refuses adapters of another base, other shapes, unknown linears and DoRA", () =>
    withModel(async ({ adapter, merge, base }) => {
      await adapter("good", shape(1));
      const other = "0".repeat(64);
      await adapter("other", shape(2, { binding: { base: other, replaces: false } }));
      await adapter("dora", shape(3, { dora: true }));
      const joins = async (name: string): Promise<string> => {
        const options = merge([
          ["good", 1],
          [name, 1],
        ]);
        const { message } = await assertRejects(() => joinAdapters(options), FormatError);
        assert(!existsSync(options.out));
        return message;
      };
      const wrong = await joins("other");
      for (const part of [other, base]) assertStringIncludes(wrong, part);
      assertStringIncludes(await joins("dora"), "DoRA");
      using small = await createTinyModel({ loraRank: 2 });
      const foreign = merge([["good", 1]], { rank: 2 });
      writeFileSync(
        join(small.dir, "config.json"),
        JSON.stringify({ ...openCheckpoint(small.dir).config, num_hidden_layers: 1 }),
      );
      await assertRejects(() => joinAdapters({ ...foreign, model: small.dir }), FormatError, "no such linear");
    }));

  it("asks about an adapter that looks like the calibrated LoRA and does not say what it is", () =>
    withModel(async ({ tiny, adapter, merge }) => {
      await adapter("one", shape(1));
      const init = join(tiny.dir, "apiq_init");
      const options = merge([["one", 1]]);
      const both = { ...options, adapters: [...options.adapters, { dir: init, weight: 1 }] };
      await assertRejects(() => joinAdapters(both), FormatError, "--mode replace");
      assertEquals((await joinAdapters({ ...both, mode: "stack" })).replaces, false);
      rmSync(options.out, { recursive: true });
      assertEquals((await joinAdapters({ ...both, mode: "replace" })).replaces, true);
    }));

  it("leaves nothing behind when it is stopped, and never overwrites", () =>
    withModel(async ({ dir, adapter, merge }) => {
      await adapter("one", shape(1));
      await adapter("two", shape(2));
      const stop = new AbortController();
      const options = merge(
        [
          ["one", 1],
          ["two", 1],
        ],
        { signal: stop.signal },
      );
      const before = readdirSync(dir);
      await assertRejects(() => joinAdapters(options, (done) => done === 2 && stop.abort()));
      assertEquals(readdirSync(dir), before);
      await joinAdapters({ ...options, signal: new AbortController().signal });
      await assertRejects(() => joinAdapters({ ...options, signal: new AbortController().signal }), Error, "it exists");
    }));
});

describe("exportMerged", () => {
  it("gives the logits of serving with the adapter, which replaces, stacks, or is DoRA", () =>
    withModel(async ({ tiny, dir, adapter, merge, base }) => {
      await adapter("replaces", shape(1, { binding: { base, replaces: true } }));
      await adapter("stacks", shape(2, { binding: { base, replaces: false } }));
      await adapter("dora", shape(3, { dora: true }));
      for (const name of ["replaces", "stacks", "dora"]) {
        const options = merge([[name, 1]]);
        const out = join(dir, `${name}-dense`);
        const { calibratedLora } = await exportMerged({ ...options, out, dtype: "float32" });
        assertEquals(calibratedLora, name === "replaces" ? "replaced" : "merged");
        assert(!existsSync(join(out, "apiq_init")));
        using beside = goldenModel(tiny.dir, { adapters: { it: join(dir, name) } });
        using inside = goldenModel(out);
        const [actual, expected] = [logitsOf(inside, TOKENS), logitsOf(beside, TOKENS, 1)];
        const spread = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
        const off = largestDifference(actual, expected) / spread;
        assert(off < 1e-4, `${name}: logits differ by ${off} of their spread`);
      }
    }));

  it("refuses DoRA beside another adapter, or with a factor", () =>
    withModel(async ({ adapter, merge }) => {
      await adapter("one", shape(1));
      await adapter("dora", shape(3, { dora: true }));
      const run = async (adapters: readonly (readonly [string, number])[]) => {
        const options = merge(adapters);
        await assertRejects(() => exportMerged({ ...options, dtype: "float16" }), FormatError, "DoRA");
      };
      await run([
        ["one", 1],
        ["dora", 1],
      ]);
      await run([["dora", 0.5]]);
    }));
});
