import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB } from "../../tests/fixtures/tiny_model.ts";
import { goldenModel, largestDifference, logitsOf } from "../../tests/golden/load.ts";
import { exportModel } from "../export/export_model.ts";
import { openCheckpoint, readBytes } from "../formats/mod.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { inFolder } from "../formats/test_files.ts";

const TOKENS = Array.from({ length: 30 }, (_, i) => (i * 41 + 7) % TINY_VOCAB);
const RANK = 4;
const LINEARS = { "self_attn.q_proj": [128, 128], "self_attn.v_proj": [64, 128], "mlp.down_proj": [128, 256] } as const;

const wave = (name: string, shape: readonly number[], frequency: number, size: number, offset = 0): TensorToWrite => {
  const values = Float32Array.from(
    { length: shape.reduce((a, b) => a * b) },
    (_, i) => offset + size * Math.sin(i * frequency),
  );
  return { name, dtype: "F32", shape, data: new Uint8Array(values.buffer) };
};

/** A DoRA adapter on three linears of both blocks, with magnitudes around `length`. */
async function writeDora(dir: string, length: number, phase: number): Promise<void> {
  mkdirSync(dir);
  const tensors = [0, 1].flatMap((layer) =>
    Object.entries(LINEARS).flatMap(([part, [out, into]]) => {
      const prefix = `base_model.model.model.layers.${layer}.${part}`;
      return [
        wave(`${prefix}.lora_A.weight`, [RANK, into], 1.3 + phase, 0.1),
        wave(`${prefix}.lora_B.weight`, [out, RANK], 0.7 + phase, 0.1),
        wave(`${prefix}.lora_magnitude_vector`, [out], 0.9 + phase, length / 4, length),
      ];
    }),
  );
  await writeSafetensors(join(dir, "adapter_model.safetensors"), tensors);
  const targets = Object.keys(LINEARS).map((part) => part.split(".")[1]);
  const config = { peft_type: "LORA", r: RANK, lora_alpha: 6, use_dora: true, bias: "none", target_modules: targets };
  writeFileSync(join(dir, "adapter_config.json"), JSON.stringify(config));
}

/** The tiny model as Qwen2 has it, with biases on q, k and v; its other tensors stay packed. */
async function withBiases(from: string, to: string): Promise<void> {
  mkdirSync(to);
  const { config, tensors } = openCheckpoint(from);
  writeFileSync(join(to, "config.json"), JSON.stringify({ ...config, model_type: "qwen2" }));
  const biases = [0, 1].flatMap((layer) =>
    Object.entries({ q_proj: 128, k_proj: 64, v_proj: 64 }).map(([part, size]) =>
      wave(`model.layers.${layer}.self_attn.${part}.bias`, [size], 1.9, 2),
    ),
  );
  const copied = [...tensors.values()].map((t) => ({
    name: t.name,
    dtype: t.dtype,
    shape: t.shape,
    data: readBytes(t),
  }));
  await writeSafetensors(join(to, "model.safetensors"), [...copied, ...biases]);
}

function logits(dir: string, adapter?: string): Float32Array {
  using loaded = goldenModel(dir, { adapters: adapter === undefined ? {} : { adapter } });
  return logitsOf(loaded, TOKENS, loaded.adapterSlots.get("adapter") ?? -1);
}

/** Largest difference over the largest logit. */
function distance(a: Float32Array, b: Float32Array): number {
  return largestDifference(a, b) / b.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

describe("DoRA on a packed model with biases", () => {
  it("serves the logits of the merged weights, as calibrated LoRA", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ bits: 3 });
      const [model, merged] = [join(dir, "model"), join(dir, "merged")];
      await withBiases(tiny.dir, model);
      const plain = logits(model);
      await writeDora(join(model, "apiq_init"), 2, 0);
      await exportModel({ model, out: merged, dtype: "float32", mergeLora: true });
      const served = logits(model);
      const off = distance(served, logits(merged));
      assert(off < 1e-5, `logits differ by ${off}`);
      assert(distance(served, plain) > 0.1, "the adapter changes little: this test shows nothing");
    }));

  it("serves a request's adapter on top of the calibrated one", () =>
    inFolder(async (dir) => {
      using tiny = await createTinyModel({ bits: 3 });
      const [model, merged, adapter] = [join(dir, "model"), join(dir, "merged"), join(dir, "adapter")];
      await withBiases(tiny.dir, model);
      await writeDora(join(model, "apiq_init"), 2, 0);
      await writeDora(adapter, 1.5, 0.4);
      await exportModel({ model, out: merged, dtype: "float32", mergeLora: true });
      const served = logits(model, adapter);
      const off = distance(served, logits(merged, adapter));
      assert(off < 1e-5, `logits differ by ${off}`);
      assert(distance(served, logits(model)) > 0.1, "the adapter changes little: this test shows nothing");
    }));
});
