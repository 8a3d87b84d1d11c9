import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB } from "../../tests/fixtures/tiny_model.ts";
import { goldenModel, largestDifference, logitsOf } from "../../tests/golden/load.ts";
import { bfloatsToFloats, floatsToBfloats, floatsToHalves, halvesToFloats } from "../formats/floats.ts";
import { FormatError, openCheckpoint, readTensor } from "../formats/mod.ts";
import { writeSafetensors } from "../formats/safetensors_writer.ts";
import { inFolder } from "../formats/test_files.ts";
import { dequantizeStored } from "../quantize/dequantize.ts";
import { readStored } from "../quantize/read_stored.ts";
import { type ExportDtype, type ExportOptions, exportModel } from "./export_model.ts";

const TOKENS = Array.from({ length: 24 }, (_, i) => (i * 37 + 5) % TINY_VOCAB);

function logits(dir: string): Float32Array {
  using loaded = goldenModel(dir);
  return logitsOf(loaded, TOKENS);
}

/** Largest difference of logits, in units of their spread. */
function distance(actual: string, expected: Float32Array): number {
  const spread = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
  return largestDifference(logits(actual), expected) / spread;
}

describe("exportModel", () => {
  it("gives the packed model's logits, and in 16 bits the same numbers rounded once", () =>
    inFolder(async (dir) => {
      for (const bits of [2, 3, 4, 8] as const) {
        using tiny = await createTinyModel({ bits });
        const run = async (dtype: ExportDtype) => {
          const out = join(dir, `${bits}-${dtype}`);
          const result = await exportModel({ model: tiny.dir, out, dtype });
          assertEquals([result.unpacked, result.calibratedLora], [14, "none"]);
          const checkpoint = openCheckpoint(out);
          assertEquals(checkpoint.quantization, undefined);
          assertEquals([checkpoint.config.torch_dtype, checkpoint.fingerprint], [dtype, result.fingerprint!]);
          assert(![...checkpoint.tensors.keys()].some((name) => /qweight|qzeros|scales|g_idx/.test(name)));
          return checkpoint;
        };
        const exact = await run("float32");
        const off = distance(exact.dir, logits(tiny.dir));
        assert(off < 1e-5, `${bits} bits: logits differ by ${off} of their spread`);
        const [halves, bfloats] = [await run("float16"), await run("bfloat16")];
        for (const [name, tensor] of exact.tensors) {
          const values = readTensor(tensor);
          assertEquals([halves.tensor(name).dtype, bfloats.tensor(name).dtype], ["F16", "BF16"]);
          assertEquals(readTensor(halves.tensor(name)), halvesToFloats(floatsToHalves(values)), name);
          assertEquals(readTensor(bfloats.tensor(name)), bfloatsToFloats(floatsToBfloats(values)), name);
        }
      }
    }));

  it("writes exactly what the packed matrices stand for", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ bits: 3 });
      const out = join(dir, "out");
      await exportModel({ model: tiny.dir, out, dtype: "float32" });
      const module = "model.layers.1.mlp.gate_proj";
      const packed = openCheckpoint(tiny.dir).linear(module, 256, 128);
      const dense = openCheckpoint(out).linear(module, 256, 128);
      assert(dense.kind === "dense");
      assertEquals(readTensor(dense.weight), dequantizeStored(readStored(packed), 256, 128));
    }));

  it("copies the calibrated LoRA, or merges it: both give the same logits", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ loraRank: 4 });
      const expected = logits(tiny.dir);
      const run = (name: string, mergeLora: boolean) =>
        exportModel({ model: tiny.dir, out: join(dir, name), dtype: "float32", mergeLora });
      assertEquals((await run("apart", false)).calibratedLora, "copied");
      assertEquals((await run("merged", true)).calibratedLora, "merged");
      assert(existsSync(join(dir, "apart", "apiq_init", "adapter_model.safetensors")));
      assert(!existsSync(join(dir, "merged", "apiq_init")));
      // The tiny model's LoRA is held in float32 here: what remains is the order of sums.
      for (const name of ["apart", "merged"]) {
        const off = distance(join(dir, name), expected);
        assert(off < 1e-4, `${name}: logits differ by ${off} of their spread`);
      }
      using plain = await createTinyModel({ loraRank: 0 });
      await assertRejects(
        () => exportModel({ model: plain.dir, out: join(dir, "none"), dtype: "float32", mergeLora: true }),
        FormatError,
        "--merge-lora needs a calibrated LoRA",
      );
    }));

  it("splits a large model into shards, and copies the tokenizer", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel();
      writeFileSync(join(tiny.dir, "tokenizer.json"), "{}");
      const [one, many] = [join(dir, "one"), join(dir, "many")];
      const first = await exportModel({ model: tiny.dir, out: one, dtype: "float16" });
      const second = await exportModel({ model: tiny.dir, out: many, dtype: "float16", shardBytes: 200_000 });
      assertEquals(first.fingerprint, second.fingerprint);
      assert(readdirSync(many).filter((name) => name.endsWith(".safetensors")).length > 2);
      assertEquals(openCheckpoint(many).tensors.size, first.tensors);
      assertEquals(readFileSync(join(many, "tokenizer.json"), "utf8"), "{}");
    }));

  it("writes nothing in a dry run, over a folder that exists, and when it is stopped", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel();
      const options: ExportOptions = { model: tiny.dir, out: join(dir, "out"), dtype: "float16" };
      const planned = await exportModel({ ...options, dryRun: true });
      assertEquals([planned.fingerprint, readdirSync(dir)], [null, []]);
      const stop = new AbortController();
      await assertRejects(() =>
        exportModel({ ...options, signal: stop.signal }, ({ done }) => done === 3 && stop.abort()),
      );
      assertEquals(readdirSync(dir), []);
      const written = await exportModel(options);
      assertEquals({ ...written, fingerprint: null }, planned);
      await assertRejects(() => exportModel(options), Error, "it exists; --force replaces it");
      await exportModel({ ...options, force: true, dtype: "bfloat16" });
      assertEquals(openCheckpoint(options.out).config.torch_dtype, "bfloat16");
    }));

  it("refuses values that the type cannot hold", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel();
      const { config, tensors } = openCheckpoint(tiny.dir);
      const changed = [...tensors.values()].map((tensor) => {
        const values = tensor.dtype === "F32" ? readTensor(tensor) : undefined;
        if (tensor.name === "model.norm.weight") values![3] = 1e5;
        const { name, dtype, shape } = tensor;
        return values && { name, dtype, shape, data: new Uint8Array(values.buffer) };
      });
      const model = join(dir, "model");
      await exportModel({ model: tiny.dir, out: model, dtype: "float32" });
      const dense = openCheckpoint(model);
      const names = new Set(changed.map((tensor) => tensor?.name));
      const rest = [...dense.tensors.values()].filter(({ name }) => !names.has(name));
      await writeSafetensors(join(model, "model.safetensors"), [
        ...changed.filter((tensor) => tensor !== undefined),
        ...rest.map((t) => ({
          name: t.name,
          dtype: t.dtype,
          shape: t.shape,
          data: new Uint8Array(readTensor(t).buffer),
        })),
      ]);
      assertEquals(config.model_type, "llama");
      const out = join(dir, "out");
      const refused = await assertRejects(() => exportModel({ model, out, dtype: "float16" }), FormatError);
      assert(refused.message.includes("model.norm.weight") && refused.message.includes("float16 cannot hold"));
      assert(!existsSync(out));
      await exportModel({ model, out, dtype: "bfloat16" });
    }));
});
