/** Models of which some linears have other bits: quantized, served, exported and trained further. */
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { exportModel } from "../../runtime/export/export_model.ts";
import { finetune } from "../../runtime/finetune/finetune.ts";
import { openCheckpoint } from "../../runtime/formats/mod.ts";
import { inspectModel } from "../../runtime/inspect/inspect.ts";
import { parseBitsFor } from "../../runtime/quantize/bits_for.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { smallOptions } from "../finetune/run.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { largestDifference, logitsOf } from "../golden/load.ts";
import { firstWindow, open, smallRun, temporaryFolder } from "./run.ts";

/** Linears that share an input have different bits, and blocks do. */
const BITS_FOR = ["model.layers.0.*.*=3", "model.layers.*.self_attn.v_proj=4", "model.layers.1.mlp.down_proj=8"].map(
  parseBitsFor,
);

const bitsIn = (dir: string, module: string, shape: readonly [number, number]) => {
  const source = openCheckpoint(dir).linear(module, ...shape);
  return source.kind === "dense" ? 16 : source.bits;
};

for (const [method, quantMethod, embeddingBits] of [
  ["apiq-bw", "gptq", 16],
  ["rtn", "apiq", 4],
] as const) {
  describe(`a model of mixed bits by ${method}, embedding in ${embeddingBits}`, () => {
    it(`is a folder of quant_method ${quantMethod} that is served, exported and trained further`, async () => {
      using dense = await createDenseModel();
      using folder = temporaryFolder();
      const options = smallRun(dense.dir, folder.dir, method, {}, { bitsFor: BITS_FOR, embeddingBits, threads: 1 });
      const { out } = await quantize(options);
      const checkpoint = openCheckpoint(out);
      assertEquals(checkpoint.quantization?.method, quantMethod);
      const bits = (dir: string): readonly number[] => [
        bitsIn(dir, "model.layers.0.self_attn.q_proj", [128, 128]),
        bitsIn(dir, "model.layers.1.self_attn.q_proj", [128, 128]),
        bitsIn(dir, "model.layers.1.self_attn.v_proj", [64, 128]),
        bitsIn(dir, "model.layers.1.mlp.down_proj", [128, 256]),
      ];
      assertEquals(bits(out), [3, 2, 4, 8]);
      const kinds = inspectModel(out).quantization.storage.map(({ storage }) => storage.slice(0, 6));
      for (const kind of ["2 bits", "3 bits", "4 bits", "8 bits"]) assert(kinds.includes(kind), `${kinds}`);

      const twin = join(folder.dir, "twin");
      await exportModel({ model: out, out: twin, dtype: "float32", mergeLora: checkpoint.initAdapter !== undefined });
      const ids = firstWindow(dense.dir);
      const logits = (dir: string): Float32Array => {
        using loaded = open(dir);
        return logitsOf(loaded, ids);
      };
      const [served, expected] = [logits(out), logits(twin)];
      const spread = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
      // LoRA is served in 16 bits.
      assert(largestDifference(served, expected) / spread < 5e-3);

      const more = {
        lora: method === "rtn" ? { rank: 2 } : {},
        weightsFrom: dense.dir,
        out: join(folder.dir, "trained"),
      };
      const trained = await finetune(smallOptions(out, folder.dir, { trainWeights: true, maxSteps: 1 }, more));
      assertEquals(bits(trained.out), [3, 2, 4, 8]);
      assert(openCheckpoint(trained.out).fingerprint !== checkpoint.fingerprint);
    });
  });
}
