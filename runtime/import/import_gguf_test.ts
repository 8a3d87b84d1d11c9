import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { FormatError } from "../formats/failure.ts";
import { floatsToHalves, halfToFloat } from "../formats/floats.ts";
import { unpackRows, unpackZeros } from "../formats/gptq.ts";
import { type Checkpoint, openCheckpoint, openSafetensors, readBytes, readInts, readTensor } from "../formats/mod.ts";
import { inFolder } from "../formats/test_files.ts";
import { type GgufEntry, type GgufField, writeGguf } from "../formats/test_gguf.ts";
import { importGguf } from "./import_gguf.ts";

/** A matrix of an imported model as float32 [out, in], by the definition of the format. */
function dequantize(checkpoint: Checkpoint, module: string, outFeatures: number, inFeatures: number): Float32Array {
  const source = checkpoint.linear(module, outFeatures, inFeatures);
  if (source.kind === "dense") return readTensor(source.weight);
  assert(source.kind === "affine");
  const { bits, group, zero } = source;
  const groups = inFeatures / group;
  const q = unpackRows(readInts(source.qweight), outFeatures, inFeatures, bits);
  const scales = readTensor(source.scales);
  const mins = zero === "float" ? readTensor(source.zeros) : undefined;
  const zeros = mins ? undefined : unpackZeros(readInts(source.zeros), groups, outFeatures, bits, source.format);
  const values = new Float32Array(q.length);
  for (let row = 0, i = 0; row < outFeatures; row++) {
    for (let g = 0; g < groups; g++) {
      const scale = scales[g * outFeatures + row]!;
      const zero = zeros ? zeros[g * outFeatures + row]! : 0;
      const min = mins ? mins[g * outFeatures + row]! : 0;
      for (const end = i + group; i < end; i++) values[i] = scale * (q[i]! - zero) + min;
    }
  }
  return values;
}

const HIDDEN = 64;
const TYPES = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 8, BF16: 30 } as const;
type TypeName = keyof typeof TYPES;
const BLOCK_BYTES: Record<TypeName, number> = { F32: 128, F16: 64, Q4_0: 18, Q4_1: 20, Q8_0: 34, BF16: 64 };

/** A tensor [rows, cols] of blocks whose bytes all differ; float16 fields are small numbers of either sign. */
function entry(name: string, type: TypeName, rows: number, cols: number): GgufEntry {
  const blocks = (rows * cols) / 32;
  const data = Uint8Array.from(
    { length: blocks * BLOCK_BYTES[type] },
    (_, i) => (Math.imul(i, 2654435761) >>> 13) & 255,
  );
  const setHalf = (at: number, value: number): void => {
    data[at] = value & 255;
    data[at + 1] = value >> 8;
  };
  for (let block = 0; block < blocks; block++) {
    const at = block * BLOCK_BYTES[type];
    const sign = block % 3 === 0 ? 0x8000 : 0;
    if (type.startsWith("Q")) setHalf(at, sign | (0x2400 + block));
    if (type === "Q4_1") setHalf(at + 2, (sign ^ 0x8000) | (0x3000 + block));
    if (type === "F32") new Float32Array(data.buffer, at, 32).fill(block + 0.25);
    if (type === "F16" || type === "BF16") for (let i = 0; i < 32; i++) setHalf(at + 2 * i, 0x3c00 + 32 * block + i);
  }
  return { name, dims: rows === 1 ? [cols] : [cols, rows], type: TYPES[type], data };
}

/** What a block's 32 values are, by GGUF's definition. */
function blockValues(type: TypeName, { data }: GgufEntry, block: number): number[] {
  const at = block * BLOCK_BYTES[type];
  const half = (offset: number): number => halfToFloat(data[at + offset]! | (data[at + offset + 1]! << 8));
  const nibble = (start: number, i: number): number => (data[at + start + (i % 16)]! >> (i < 16 ? 0 : 4)) & 15;
  return Array.from({ length: 32 }, (_, i) => {
    if (type === "Q4_0") return Math.fround(half(0) * (nibble(2, i) - 8));
    if (type === "Q4_1") return Math.fround(half(0) * nibble(4, i) + half(2));
    if (type === "Q8_0") return Math.fround(half(0) * ((data[at + 2 + i]! << 24) >> 24));
    throw new Error(type);
  });
}

/** llama.cpp's own order of the rows of a rotary projection: the halves of each head interleaved. */
const interleave = (rows: number, head: number): number[] =>
  Array.from({ length: rows }, (_, row) => {
    const inHead = row % head;
    return row - inHead + (inHead % (head / 2)) * 2 + Math.floor(inHead / (head / 2));
  });

const metadata = (architecture: string, extra: Record<string, GgufField> = {}): Record<string, GgufField> => ({
  "general.architecture": architecture,
  [`${architecture}.block_count`]: 1,
  [`${architecture}.context_length`]: 128,
  [`${architecture}.embedding_length`]: HIDDEN,
  [`${architecture}.feed_forward_length`]: 96,
  [`${architecture}.attention.head_count`]: 4,
  [`${architecture}.attention.head_count_kv`]: 2,
  [`${architecture}.attention.layer_norm_rms_epsilon`]: { f32: 1e-5 },
  [`${architecture}.rope.freq_base`]: { f32: 10000 },
  "tokenizer.ggml.eos_token_id": 2,
  ...extra,
});

const TENSORS: GgufEntry[] = [
  entry("token_embd.weight", "Q8_0", 40, HIDDEN),
  entry("blk.0.attn_norm.weight", "F32", 1, HIDDEN),
  entry("blk.0.attn_q.weight", "Q4_1", HIDDEN, HIDDEN),
  entry("blk.0.attn_k.weight", "Q4_0", 32, HIDDEN),
  entry("blk.0.attn_v.weight", "F16", 32, HIDDEN),
  entry("blk.0.attn_output.weight", "BF16", HIDDEN, HIDDEN),
  entry("blk.0.ffn_gate.weight", "Q4_1", 96, HIDDEN),
  entry("blk.0.ffn_up.weight", "F32", 96, HIDDEN),
];

/** Writes the GGUF, imports it and hands both folders over. */
const imported = (
  parts: { metadata: Record<string, GgufField>; tensors: GgufEntry[]; beside?: Record<string, string> },
  body: (out: string, result: Awaited<ReturnType<typeof importGguf>>) => void,
): Promise<void> =>
  inFolder(async (dir) => {
    for (const [name, text] of Object.entries(parts.beside ?? {})) writeFileSync(join(dir, name), text);
    writeGguf(join(dir, "a.gguf"), parts);
    const out = join(dir, "out");
    body(out, await importGguf({ gguf: join(dir, "a.gguf"), out }));
  });

const refuses = (
  parts: { metadata: Record<string, GgufField>; tensors: GgufEntry[]; beside?: Record<string, string> },
  message: string,
): Promise<void> =>
  inFolder(async (dir) => {
    for (const [name, text] of Object.entries(parts.beside ?? {})) writeFileSync(join(dir, name), text);
    writeGguf(join(dir, "a.gguf"), parts);
    const before = readdirSync(dir).sort();
    await assertRejects(() => importGguf({ gguf: join(dir, "a.gguf"), out: join(dir, "out") }), FormatError, message);
    assertEquals(readdirSync(dir).sort(), before);
  });

describe("importGguf", () => {
  it("keeps every value of every type, rows of q and k in Hugging Face's order", () =>
    imported({ metadata: metadata("llama"), tensors: TENSORS }, (out) => {
      const checkpoint = openCheckpoint(out);
      const check = (module: string, tensor: GgufEntry, type: TypeName, order?: number[]): void => {
        const [cols, rows] = tensor.dims as [number, number];
        const values = dequantize(checkpoint, module, rows, cols);
        for (let row = 0; row < rows; row++) {
          const source = order ? order[row]! : row;
          for (let block = 0; block < cols / 32; block++) {
            const expected = blockValues(type, tensor, (source * cols) / 32 + block);
            const at = row * cols + block * 32;
            assertEquals(
              [...values.subarray(at, at + 32)].map((v) => v + 0),
              expected.map((v) => v + 0),
              `${module} row ${row}`,
            );
          }
        }
      };
      const [embedding, , q, k, v, o, gate, up] = TENSORS as [...GgufEntry[]];
      check("model.embed_tokens", embedding!, "Q8_0");
      check("model.layers.0.self_attn.q_proj", q!, "Q4_1", interleave(HIDDEN, 16));
      check("model.layers.0.self_attn.k_proj", k!, "Q4_0", interleave(32, 16));
      check("model.layers.0.mlp.gate_proj", gate!, "Q4_1");
      const dense = [v, o, up].map((tensor) => tensor!.data);
      const names = ["self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj"];
      const stored = names.map((name) => checkpoint.tensor(`model.layers.0.${name}.weight`));
      assertEquals(
        stored.map((tensor) => readBytes(tensor)),
        dense,
      );
      assertEquals(
        stored.map(({ dtype }) => dtype),
        ["F16", "BF16", "F32"],
      );
    }));

  it("writes a config with per-module settings, tied embeddings and a fingerprint", () =>
    imported({ metadata: metadata("llama"), tensors: TENSORS }, (out, result) => {
      const { quantization_config: quantization, ...config } = JSON.parse(
        readFileSync(join(out, "config.json"), "utf8"),
      );
      assertEquals(config, {
        model_type: "llama",
        architectures: ["LlamaForCausalLM"],
        hidden_size: HIDDEN,
        intermediate_size: 96,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        vocab_size: 40,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        rope_theta: 10000,
        rope_scaling: null,
        hidden_act: "silu",
        attention_bias: false,
        eos_token_id: 2,
        tie_word_embeddings: true,
        apiq_fingerprint: result.fingerprint,
      });
      assertEquals(quantization, {
        quant_method: "apiq",
        version: 1,
        bits: 4,
        group_size: 32,
        zero: "float",
        modules: {
          "model.embed_tokens": { bits: 8, group_size: 32, zero: "integer" },
          "model.layers.0.self_attn.k_proj": { bits: 4, group_size: 32, zero: "integer" },
        },
      });
      assertEquals(result.types, { Q8_0: 1, F32: 2, Q4_1: 2, Q4_0: 1, F16: 1, BF16: 1 });
      assert(result.warnings[0]?.includes("tokenizer.json"));
    }));

  it("leaves rows where they are for qwen2 and keeps its biases and head", () => {
    const tensors = [
      entry("token_embd.weight", "F16", 40, HIDDEN),
      entry("output.weight", "F16", 40, HIDDEN),
      entry("blk.0.attn_q.weight", "F16", HIDDEN, HIDDEN),
      entry("blk.0.attn_q.bias", "F32", 1, HIDDEN),
    ];
    return imported({ metadata: metadata("qwen2"), tensors }, (out) => {
      const checkpoint = openCheckpoint(out);
      assertEquals(readBytes(checkpoint.tensor("model.layers.0.self_attn.q_proj.weight")), tensors[2]!.data);
      assertEquals(readBytes(checkpoint.tensor("model.layers.0.self_attn.q_proj.bias")), tensors[3]!.data);
      assertEquals(checkpoint.config.tie_word_embeddings, false);
      assertEquals(checkpoint.quantization, undefined);
    });
  });

  it("takes the files beside the GGUF, and its template where they have none", () => {
    const config = {
      model_type: "mistral",
      hidden_size: HIDDEN,
      intermediate_size: 96,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      sliding_window: 24,
    };
    const beside = { "config.json": JSON.stringify(config), "tokenizer.json": "{}", "unrelated.txt": "" };
    const template = { "tokenizer.chat_template": "{{ messages }}" };
    return imported({ metadata: metadata("llama", template), tensors: TENSORS, beside }, (out, { warnings }) => {
      const written = JSON.parse(readFileSync(join(out, "config.json"), "utf8"));
      assertEquals([written.model_type, written.sliding_window], ["mistral", 24]);
      assertEquals(readFileSync(join(out, "chat_template.jinja"), "utf8"), "{{ messages }}");
      assert(existsSync(join(out, "tokenizer.json")) && !existsSync(join(out, "unrelated.txt")));
      assertEquals(warnings, []);
    });
  });

  it("refuses what it cannot import whole", async () => {
    const tensors = TENSORS;
    await refuses({ metadata: metadata("gemma2"), tensors }, "unsupported architecture, received gemma2");
    await refuses({ metadata: metadata("llama", { "split.count": 3 }), tensors }, "split into several files");
    await refuses(
      { metadata: { "general.architecture": "llama" }, tensors },
      "llama.attention.head_count, received none",
    );
    await refuses(
      { metadata: metadata("llama"), tensors: [entry("blk.0.ffn_gate_inp.weight", "F32", 8, 32)] },
      "no such tensor",
    );
    await refuses(
      { metadata: metadata("llama"), tensors: [entry("blk.0.attn_norm.weight", "Q8_0", 1, 32)] },
      "only matrices",
    );
    await refuses(
      { metadata: metadata("llama"), tensors: [entry("blk.0.attn_q.weight", "F16", 4, 32)] },
      "divide into heads",
    );
    await refuses(
      { metadata: metadata("llama"), tensors: [entry("rope_freqs.weight", "F32", 1, 32)] },
      "rotary scaling",
    );
    const beside = { "config.json": JSON.stringify({ hidden_size: 32 }) };
    await refuses({ metadata: metadata("llama"), tensors, beside }, "hidden_size does not match");
  });

  it("stops when it is told to and leaves nothing", () =>
    inFolder(async (dir) => {
      writeGguf(join(dir, "a.gguf"), { metadata: metadata("llama"), tensors: TENSORS });
      const abort = new AbortController();
      const seen: number[] = [];
      const options = { gguf: join(dir, "a.gguf"), out: join(dir, "out"), signal: abort.signal };
      await assertRejects(() =>
        importGguf(options, ({ done }) => {
          seen.push(done);
          if (done === 3) abort.abort();
        }),
      );
      assertEquals(seen, [0, 1, 2, 3]);
      assertEquals(readdirSync(dir), ["a.gguf"]);
    }));

  itShared("gives SmolLM2 the numbers of its float16 folder, bit for bit", () =>
    inFolder(async (dir) => {
      const model = sharedPath("models/SmolLM2-135M-Instruct");
      const reference = join(dir, "reference");
      const { status, stderr } = spawnSync("node", [sharedPath("tools/gguf_to_hf.mjs"), model, reference]);
      assertEquals(status, 0, String(stderr));
      const out = join(dir, "out");
      await importGguf({ gguf: join(model, "SmolLM2-135M-Instruct.Q4_1.gguf"), out });
      const checkpoint = openCheckpoint(out);
      const { tensors } = openSafetensors(join(reference, "model.safetensors"));
      for (const [name, tensor] of tensors) {
        const [rows, cols] = tensor.shape as [number, number | undefined];
        const module = name.replace(/\.weight$/, "");
        const values =
          cols === undefined ? readTensor(checkpoint.tensor(name)) : dequantize(checkpoint, module, rows, cols);
        const expected = new Uint16Array(readBytes(tensor).buffer);
        const wrong = floatsToHalves(values).findIndex((value, i) => value !== expected[i]);
        assertEquals(wrong, -1, `${name}: element ${wrong}`);
      }
      assertEquals(tensors.size, 272);
    }),
  );
});
