import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { measureStorage } from "./storage.mjs";

/** A safetensors file of zeros. */
function write(path, tensors) {
  const header = {};
  let end = 0;
  for (const [name, dtype, bytes, shape] of tensors) {
    const size = bytes * shape.reduce((product, n) => product * n, 1);
    header[name] = { dtype, shape, data_offsets: [end, end + size] };
    end += size;
  }
  const json = Buffer.from(JSON.stringify({ __metadata__: { format: "pt" }, ...header }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(end)]));
}

const Q = "model.layers.0.self_attn.q_proj";
const K = "model.layers.0.self_attn.k_proj";

describe("measureStorage", () => {
  let folder;
  const at = (name) => join(folder, name);
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "apiq-storage-"));
    for (const name of ["dense", "packed", "lora"]) mkdirSync(at(name));
    // Two linears [128, 128]; embedding and norms do not count.
    write(join(at("dense"), "model.safetensors"), [
      ["model.embed_tokens.weight", "F16", 2, [320, 128]],
      ["model.layers.0.input_layernorm.weight", "F16", 2, [128]],
      [`${Q}.weight`, "F16", 2, [128, 128]],
      [`${K}.weight`, "F16", 2, [128, 128]],
    ]);
    // 2 bits in groups of 64 on one, the other kept in 16 bits.
    const packed = [
      ["model.embed_tokens.weight", "F16", 2, [320, 128]],
      [`${Q}.qweight`, "I32", 4, [8, 128]],
      [`${Q}.qzeros`, "I32", 4, [2, 8]],
      [`${Q}.scales`, "F16", 2, [2, 128]],
      [`${Q}.g_idx`, "I32", 4, [128]],
      [`${Q}.bias`, "F16", 2, [128]],
      [`${K}.weight`, "F16", 2, [128, 128]],
    ];
    for (const name of ["packed", "lora"]) write(join(at(name), "model.safetensors"), packed);
    mkdirSync(join(at("lora"), "apiq_init"));
    write(join(at("lora"), "apiq_init", "adapter_model.safetensors"), [
      [`base_model.model.${Q}.lora_A.weight`, "F32", 4, [4, 128]],
      [`base_model.model.${Q}.lora_B.weight`, "F32", 4, [128, 4]],
    ]);
    writeFileSync(join(at("lora"), "apiq_init", "adapter_config.json"), '{"r": 4}');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("has 16 bits a weight for a dense float16 model", () => {
    assertEquals(measureStorage(at("dense"), at("dense")).bitsPerWeight, 16);
  });

  it("counts codes, scales and zeros, and neither g_idx nor biases nor tables", () => {
    const { weights, bitsPerWeight, rank } = measureStorage(at("packed"), at("dense"));
    assertEquals([weights, rank], [2 * 128 * 128, 0]);
    assertAlmostEquals(bitsPerWeight, (2 + 18 / 64 + 16) / 2);
  });

  it("adds a LoRA at 16 bits a number, whatever type it is stored in", () => {
    const { loraBitsPerWeight, baseBitsPerWeight, bitsPerWeight, rank } = measureStorage(at("lora"), at("dense"));
    assertEquals(rank, 4);
    assertAlmostEquals(loraBitsPerWeight, (16 * 4 * 256) / (2 * 128 * 128));
    assertAlmostEquals(bitsPerWeight, baseBitsPerWeight + loraBitsPerWeight);
  });

  it("refuses a source without linears", () => {
    mkdirSync(at("empty"));
    assertThrows(() => measureStorage(at("packed"), at("empty")), Error, "no linear");
  });
});
