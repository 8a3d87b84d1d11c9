/** Model folders with random weights that `apiq serve` can load: a known shape and a tokenizer in which every id has a text. */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { wordsFor } from "../../runtime/formats/gptq.ts";
import { type TensorToWrite, writeSafetensors } from "../../runtime/formats/safetensors_writer.ts";
import { type DecoderConfig, parseConfig } from "../../runtime/models/config.ts";
import { SHAPES } from "../../runtime/models/shapes.ts";

const BITS = 2;
const TABLE_BITS = 8;
const GROUP = 64;
/** Goes into the folder's name: a folder that an older version of this file made is not used. */
const VERSION = 1;
const PIECE_BYTES = 4 * 2 ** 20;
const MESSAGE_START = "<|start|>";
const MESSAGE_END = "<|end|>";

/** Makes the folder in the system's place for temporary files unless it is there, and returns its path. */
export async function prepareRandomModel(shape: string): Promise<string> {
  const dir = join(tmpdir(), "apiq-bench", `serve-${shape}-${VERSION}`);
  if (existsSync(dir)) return dir;
  const partial = `${dir}.partial-${process.pid}`;
  mkdirSync(partial, { recursive: true });
  try {
    const config = parseConfig(SHAPES[shape], shape);
    const writeJson = (name: string, content: object) => writeFileSync(join(partial, name), JSON.stringify(content));
    await writeSafetensors(join(partial, "model.safetensors"), tensorsOf(config));
    writeJson("config.json", configJson(shape));
    writeJson("tokenizer.json", tokenizerJson(config.vocabSize));
    writeJson("tokenizer_config.json", {
      tokenizer_class: "PreTrainedTokenizerFast",
      eos_token: MESSAGE_END,
      chat_template:
        `{% for message in messages %}{{ '${MESSAGE_START}' + message.role + '\\n' + message.content + '${MESSAGE_END}' }}{% endfor %}` +
        `{% if add_generation_prompt %}{{ '${MESSAGE_START}assistant\\n' }}{% endif %}`,
    });
    renameSync(partial, dir);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return dir;
}

function configJson(shape: string): object {
  const table = { bits: TABLE_BITS };
  return {
    ...SHAPES[shape],
    eos_token_id: 1,
    quantization_config: {
      quant_method: "apiq",
      version: 1,
      bits: BITS,
      group_size: GROUP,
      zero: "integer",
      modules: { "model.embed_tokens": table, lm_head: table },
    },
  };
}

function* tensorsOf(config: DecoderConfig): Generator<TensorToWrite> {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim, layers, vocabSize, tiedEmbeddings } = config;
  yield* packed("model.embed_tokens", vocabSize, hiddenSize, TABLE_BITS);
  if (!tiedEmbeddings) yield* packed("lm_head", vocabSize, hiddenSize, TABLE_BITS);
  yield ones("model.norm.weight", hiddenSize);
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${layer}`;
    yield ones(`${at}.input_layernorm.weight`, hiddenSize);
    yield ones(`${at}.post_attention_layernorm.weight`, hiddenSize);
    yield* packed(`${at}.self_attn.q_proj`, heads * headDim, hiddenSize, BITS);
    yield* packed(`${at}.self_attn.k_proj`, kvHeads * headDim, hiddenSize, BITS);
    yield* packed(`${at}.self_attn.v_proj`, kvHeads * headDim, hiddenSize, BITS);
    yield* packed(`${at}.self_attn.o_proj`, hiddenSize, heads * headDim, BITS);
    yield* packed(`${at}.mlp.gate_proj`, intermediateSize, hiddenSize, BITS);
    yield* packed(`${at}.mlp.up_proj`, intermediateSize, hiddenSize, BITS);
    yield* packed(`${at}.mlp.down_proj`, hiddenSize, intermediateSize, BITS);
  }
}

function ones(name: string, size: number): TensorToWrite {
  return { name, dtype: "F32", shape: [size], data: new Uint8Array(new Float32Array(size).fill(1).buffer) };
}

/** W[out, into] in apiq's layout (docs/FORMAT.md). */
function* packed(module: string, out: number, into: number, bits: 2 | 8): Generator<TensorToWrite> {
  const groups = into / GROUP;
  const tensor = (part: string, dtype: "I32" | "F16", rows: number, columns: number, piece: Uint8Array) => {
    const bytes = rows * columns * (dtype === "I32" ? 4 : 2);
    return { name: `${module}.${part}`, dtype, shape: [rows, columns], data: () => repeated(piece, bytes) };
  };
  yield tensor("qweight", "I32", wordsFor(into, bits), out, RANDOM_WORDS);
  yield tensor("qzeros", "I32", groups, wordsFor(out, bits), RANDOM_WORDS);
  yield tensor("scales", "F16", groups, out, RANDOM_SCALES);
}

function* repeated(piece: Uint8Array, bytes: number): Generator<Uint8Array> {
  for (let left = bytes; left > 0; left -= piece.length) yield piece.subarray(0, Math.min(left, piece.length));
}

/** Marsaglia's 32-bit xorshift generator. */
const random = (() => {
  let state = 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state;
  };
})();
const RANDOM_WORDS = new Uint8Array(Int32Array.from({ length: PIECE_BYTES / 4 }, random).buffer);
/** float16 from 0.0078 to 0.0156: activations stay in a normal range through all layers. */
const RANDOM_SCALES = new Uint8Array(
  Uint16Array.from({ length: PIECE_BYTES / 2 }, () => 0x2000 | (random() & 0x3ff)).buffer,
);

/** Two special tokens, a token for every byte, and words for all other ids. */
function tokenizerJson(vocabSize: number): object {
  const special = (id: number, content: string) => ({
    ...{ id, content, special: true },
    ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
  });
  const specials = [special(0, MESSAGE_START), special(1, MESSAGE_END)];
  const tokens = [MESSAGE_START, MESSAGE_END, ...byteTokens()];
  while (tokens.length < vocabSize) tokens.push(word(tokens.length));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials,
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: [] },
  };
}

/** A space, which byte-level vocabularies write as Ġ, and letters: the number with 26 digits from a to z. */
function word(id: number): string {
  let letters = "";
  for (let rest = id; rest > 0; rest = Math.floor(rest / 26)) letters += String.fromCharCode(97 + (rest % 26));
  return `Ġ${letters}`;
}

/**
 * Printable stand-ins for the 256 bytes: those that print as themselves stay, the others take code points from 256 on
 * (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode).
 */
function byteTokens(): string[] {
  let next = 256;
  const prints = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : next++));
}
