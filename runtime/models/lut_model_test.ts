import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { createTinyModel, TINY_VOCAB } from "../../tests/fixtures/tiny_model.ts";
import { goldenModel, largestDifference, logitsOf } from "../../tests/golden/load.ts";
import { exportModel } from "../export/export_model.ts";
import { openCheckpoint, readTensor } from "../formats/mod.ts";
import { writeSafetensors } from "../formats/safetensors_writer.ts";
import { inFolder } from "../formats/test_files.ts";
import { inspectModel } from "../inspect/inspect.ts";
import { dequantizeStored } from "../quantize/dequantize.ts";
import { nfTable, quantizeLut } from "../quantize/lut.ts";
import type { StoredWeights } from "../quantize/method.ts";
import { packEmbedding } from "../quantize/pack_embedding.ts";
import { quantizationConfig, storageSettings, storedTensors } from "../quantize/stored_tensors.ts";

const TOKENS = Array.from({ length: 40 }, (_, i) => (i * 53 + 3) % TINY_VOCAB);

type Quantize = (module: string, values: Float32Array, shape: readonly [number, number]) => StoredWeights | null;

/** Writes `dir` anew with some matrices quantized, and a twin that holds what those stand for in float32. */
async function quantizeFolder(dense: string, packed: string, twin: string, quantize: Quantize): Promise<void> {
  const { config, tensors } = openCheckpoint(dense);
  const stored = new Map<string, StoredWeights>();
  const entries: Parameters<typeof writeSafetensors>[1][] = [];
  const twins = [];
  for (const { name, dtype, shape, ...tensor } of tensors.values()) {
    const values = readTensor({ name, dtype, shape, ...tensor });
    const module = name.replace(/\.weight$/, "");
    const size = [shape[0]!, shape[1] ?? 1] as const;
    const weights = shape.length === 2 ? quantize(module, values, size) : null;
    const plain = (data: Float32Array) => ({ name, dtype, shape, data: new Uint8Array(data.buffer) });
    if (weights !== null) stored.set(module, weights);
    entries.push(weights === null ? [plain(values)] : storedTensors(module, weights, size));
    twins.push(plain(weights === null ? values : dequantizeStored(weights, ...size)));
  }
  const settings = new Map([...stored].map(([module, weights]) => [module, storageSettings(weights)]));
  for (const [dir, list, extra] of [
    [packed, entries.flatMap((entry) => [...entry]), { quantization_config: quantizationConfig(settings) }],
    [twin, twins, {}],
  ] as const) {
    mkdirSync(dir);
    const { apiq_fingerprint: _, ...rest } = config;
    writeFileSync(join(dir, "config.json"), JSON.stringify({ ...rest, ...extra }));
    await writeSafetensors(join(dir, "model.safetensors"), list);
  }
}

function assertSameLogits(actual: string, expected: string, what: string): void {
  using first = goldenModel(actual);
  using second = goldenModel(expected);
  const want = logitsOf(second, TOKENS);
  const largest = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = largestDifference(logitsOf(first, TOKENS), want) / largest;
  assert(off < 1e-5, `${what}: logits differ by ${off} of the largest`);
}

const withDense = (body: (dense: string, dir: string) => Promise<void>): Promise<void> =>
  inFolder(async (dir) => {
    using tiny = await createTinyModel({ bits: 2 });
    const dense = join(dir, "dense");
    await exportModel({ model: tiny.dir, out: dense, dtype: "float32" });
    await body(dense, dir);
  });

describe("a model stored as tables of entries", () => {
  for (const bits of [2, 3, 4] as const) {
    it(`gives the logits of its dequantised twin at ${bits} bits, in either form of scales`, () =>
      withDense(async (dense, dir) => {
        for (const double of [false, true]) {
          const [packed, twin] = [join(dir, `packed-${double}`), join(dir, `twin-${double}`)];
          await quantizeFolder(dense, packed, twin, (module, values, shape) =>
            module.startsWith("model.layers.") ? quantizeLut(values, shape, 64, nfTable(bits), double) : null,
          );
          assertSameLogits(packed, twin, `double quantization ${double}`);
          const [most] = inspectModel(packed).quantization.storage;
          assertEquals(most?.storage, `${bits} bits, groups of 64, table${double ? ", 8-bit scales" : ""}`);
          const exported = join(dir, `exported-${double}`);
          await exportModel({ model: packed, out: exported, dtype: "float32" });
          assertSameLogits(exported, twin, "exported");
        }
      }));
  }

  it("may have tables for embedding and head, each matrix another one, beside affine and dense ones", () =>
    withDense(async (dense, dir) => {
      const [packed, twin] = [join(dir, "packed"), join(dir, "twin")];
      let made = 0;
      await quantizeFolder(dense, packed, twin, (module, values, shape) => {
        const kind = made++ % 4;
        if (module === "lm_head" || module === "model.embed_tokens" || kind === 0) {
          const bits = ([2, 3, 4] as const)[made % 3]!;
          const table = nfTable(bits).map((level, i) => level * (1 + i / 10));
          return quantizeLut(values, shape, 32, table);
        }
        return kind === 1 ? null : quantizeLut(values, shape, kind === 2 ? 64 : 128, nfTable(4), kind === 2);
      });
      assertSameLogits(packed, twin, "mixed");
    }));
});

describe("packEmbedding", () => {
  it("makes tables in 8 and 4 bits that serve the logits of their dequantised twin", () =>
    withDense(async (dense, dir) => {
      using context = Context.open();
      for (const bits of [8, 4] as const) {
        const [packed, twin] = [join(dir, `packed-${bits}`), join(dir, `twin-${bits}`)];
        await quantizeFolder(dense, packed, twin, (module, values, shape) =>
          module.startsWith("model.layers.") ? null : packEmbedding(context, values, shape, bits),
        );
        assertEquals(openCheckpoint(packed).quantization?.method, "apiq");
        assertSameLogits(packed, twin, `${bits} bits`);
      }
    }));

  it("gives a stretch of rows what it has in the whole table, within half a step of what it was", () => {
    using context = Context.open();
    const [rows, width] = [30, 96];
    const table = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i) * (1 + (i % 7)));
    const whole = packEmbedding(context, table, [rows, width], 8);
    assertEquals([whole.group, whole.zero], [32, "integer"]);
    const part = packEmbedding(context, table.subarray(10 * width, 12 * width), [2, width], 8);
    assertEquals(part.q, whole.q.slice(10 * width, 12 * width));
    assertEquals(part.scales, whole.scales.slice(30, 36));
    for (const [i, value] of dequantizeStored(whole, rows, width).entries()) {
      const step = whole.scales[Math.floor(i / 32)]!;
      assert(Math.abs(value - table[i]!) <= 0.51 * step + 0.001 * Math.abs(table[i]!), `value ${i}`);
    }
  });
});
