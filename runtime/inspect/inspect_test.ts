import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { elementCount, openAdapter, type StoredDtype } from "../formats/mod.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { assertFormatError, inFolder } from "../formats/test_files.ts";
import { inspectModel } from "./inspect.ts";

const BYTES: Partial<Record<StoredDtype, number>> = { I32: 4, F16: 2, F32: 4 };
const zeros = (name: string, dtype: StoredDtype, shape: number[]): TensorToWrite => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(elementCount(shape) * BYTES[dtype]!),
});

/** One 4-bit linear [32, 64], a float16 embedding [40, 64] with the head tied to it, a norm, and a LoRA of rank 4. */
async function makeModel(dir: string): Promise<void> {
  const config = {
    model_type: "llama",
    hidden_size: 64,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 40,
    max_position_embeddings: 512,
    tie_word_embeddings: true,
    quantization_config: { quant_method: "gptq", bits: 4, group_size: 64 },
  };
  const k = "model.layers.0.self_attn.k_proj";
  writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(dir, "model.safetensors"), [
    zeros("model.embed_tokens.weight", "F16", [40, 64]),
    zeros("lm_head.weight", "F16", [40, 64]),
    zeros("model.norm.weight", "F32", [64]),
    zeros(`${k}.qweight`, "I32", [8, 32]),
    zeros(`${k}.qzeros`, "I32", [1, 4]),
    zeros(`${k}.scales`, "F16", [1, 32]),
  ]);
  const init = join(dir, "apiq_init");
  mkdirSync(init);
  writeFileSync(join(init, "adapter_config.json"), '{"peft_type": "LORA", "r": 4, "lora_alpha": 8}');
  await writeSafetensors(join(init, "adapter_model.safetensors"), [
    zeros(`base_model.model.${k}.lora_A.weight`, "F32", [4, 64]),
    zeros(`base_model.model.${k}.lora_B.weight`, "F32", [32, 4]),
  ]);
}

describe("inspectModel", () => {
  it("counts parameters, bytes and bits per weight, a tied head once", () =>
    inFolder(async (dir) => {
      await makeModel(dir);
      const model = inspectModel(dir);
      assertEquals(model.parts, {
        linears: { parameters: 2048, bytes: 1024 + 16 + 64 },
        embedding: { parameters: 2560, bytes: 5120 },
        head: { parameters: 0, bytes: 0 },
        other: { parameters: 64, bytes: 256 },
      });
      assertEquals(model.parameters, 2048 + 2560 + 64);
      assertAlmostEquals(model.bitsPerWeight.linears, (1104 * 8) / 2048);
      assertAlmostEquals(model.bitsPerWeight.linearsWithLora, ((1104 + 1536) * 8) / 2048);
      assertAlmostEquals(model.bitsPerWeight.model, ((1104 + 5120 + 256) * 8) / 4672);
      assertEquals(model.quantization, {
        method: "gptq",
        storage: [
          { storage: "F16", matrices: 1, parameters: 2560 },
          { storage: "4 bits, groups of 64, integer zero", matrices: 1, parameters: 2048 },
        ],
      });
      assertEquals([model.calibratedLora?.rank, model.calibratedLora?.bytes], [4, 1536]);
    }));

  it("adds up the memory of weights, LoRA, cache and everything else", () =>
    inFolder(async (dir) => {
      await makeModel(dir);
      const { memory } = inspectModel(dir, { contextLength: 100, sequences: 3 });
      // 2 (k, v) x 2 layers x 2 heads x 16 dimensions x 2 bytes = 256 a token; 100 tokens take 7 blocks of 16.
      assertEquals(memory.kvCache, 3 * 112 * 256);
      assertEquals([memory.weights, memory.lora], [1104 + 5120 + 256, 2 * 384]);
      assertEquals(memory.total, memory.weights + memory.lora + memory.kvCache + 250e6);
      assertEquals(inspectModel(dir, { contextLength: 100000 }).memory.contextLength, 512);
    }));

  it("refuses what could not be loaded", () =>
    inFolder(async (dir) => {
      assertFormatError(() => inspectModel(dir), "config.json");
      await makeModel(dir);
      const tensors = [zeros("model.layers.0.mlp.up_proj.qweight", "I32", [8, 32])];
      await writeSafetensors(join(dir, "model.safetensors"), tensors);
      assertFormatError(() => inspectModel(dir), 'tensor "model.layers.0.mlp.up_proj.scales"', "missing");
    }));

  itShared("reports dense models and further adapters", () => {
    const adapter = openAdapter(sharedPath("golden/peft/rslora_r16"));
    const model = inspectModel(sharedPath("golden/peft/base"), { adapters: [adapter] });
    assertEquals(model.quantization.method, "none");
    assertEquals(model.bitsPerWeight.model, 32);
    assertEquals(model.calibratedLora, null);
    assertEquals(
      model.adapters.map(({ rank, rsLora, targets }) => [rank, rsLora, targets]),
      [[16, true, 14]],
    );
    assertEquals(model.memory.lora, 2 * model.adapters[0]!.parameters);
  });
});
