/**
 * Writes a GGUF model of a given shape with random weights, for timing llama.cpp: the linears in a format of choice,
 * token embedding and output head in Q8_0, norms in F32, no tokenizer. The same shape and format give the same bytes.
 * Format of the file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/** @typedef {import("./shapes.mjs").Shape} Shape */

/**
 * A block of quantized weights: random bytes, except for the float16 scales, which have fixed values that give
 * weights of about 0.02 and so keep activations finite.
 *
 * @typedef {object} BlockFormat
 * @property {number} type ggml's number of the type
 * @property {number} weights per block
 * @property {number} bytes per block
 * @property {Readonly<Record<number, number>>} halves bits of the float16 at each byte offset of the block
 * @property {boolean} [ternary] 2-bit codes stay in 0..2
 */

/** Bits of the float16 (1 + fraction/1024) * 2^exponent. */
const half = (exponent, fraction = 0) => ((15 + exponent) << 10) | fraction;

/** @type {Readonly<Record<string, BlockFormat>>} */
const QUANTIZED = {
  Q8_0: { type: 8, weights: 32, bytes: 34, halves: { 0: half(-12) } },
  Q4_0: { type: 2, weights: 32, bytes: 18, halves: { 0: half(-8) } },
  // w = d * scale * q - dmin * min with scale and min in 0..15 (Q2_K, q in 0..3) or 0..63 (Q4_K, q in 0..15):
  // dmin = 1.5 d and 7.5 d centre the weights on zero.
  Q2_K: { type: 10, weights: 256, bytes: 84, halves: { 80: half(-9), 82: half(-9, 512) } },
  Q4_K: { type: 12, weights: 256, bytes: 144, halves: { 0: half(-14), 2: half(-12, 896) } },
  TQ2_0: { type: 35, weights: 256, bytes: 66, halves: { 64: half(-6, 512) }, ternary: true },
};

/** Formats that the linears can take. */
export const LINEAR_FORMATS = Object.freeze(Object.keys(QUANTIZED));

const ALIGNMENT = 32;
const ONE_FLOAT32 = 0x3f800000;

/**
 * @typedef {object} Tensor
 * @property {string} name
 * @property {number[]} shape fastest dimension first, as GGUF has it: [in, out]
 * @property {string} format "F32" or a key of QUANTIZED
 * @property {number} bytes
 */

/** @returns {Tensor} */
function tensor(name, shape, format) {
  const elements = shape.reduce((product, length) => product * length, 1);
  if (format === "F32") return { name, shape, format, bytes: 4 * elements };
  const block = QUANTIZED[format];
  if (shape[0] % block.weights !== 0) {
    throw new Error(
      `Cannot store ${name} as ${format}: received rows of ${shape[0]} weights, expected a multiple of ${block.weights}`,
    );
  }
  return { name, shape, format, bytes: (elements / block.weights) * block.bytes };
}

/** @param {Shape} shape @param {string} linearFormat @returns {Tensor[]} */
function listTensors(shape, linearFormat) {
  const { hidden, intermediate, vocabulary } = shape;
  const kvWidth = (hidden / shape.heads) * shape.kvHeads;
  const layer = (index) => [
    tensor(`blk.${index}.attn_norm.weight`, [hidden], "F32"),
    tensor(`blk.${index}.attn_q.weight`, [hidden, hidden], linearFormat),
    tensor(`blk.${index}.attn_k.weight`, [hidden, kvWidth], linearFormat),
    tensor(`blk.${index}.attn_v.weight`, [hidden, kvWidth], linearFormat),
    tensor(`blk.${index}.attn_output.weight`, [hidden, hidden], linearFormat),
    tensor(`blk.${index}.ffn_norm.weight`, [hidden], "F32"),
    tensor(`blk.${index}.ffn_gate.weight`, [hidden, intermediate], linearFormat),
    tensor(`blk.${index}.ffn_up.weight`, [hidden, intermediate], linearFormat),
    tensor(`blk.${index}.ffn_down.weight`, [intermediate, hidden], linearFormat),
  ];
  return [
    tensor("token_embd.weight", [hidden, vocabulary], "Q8_0"),
    ...Array.from({ length: shape.layers }, (_, index) => layer(index)).flat(),
    tensor("output_norm.weight", [hidden], "F32"),
    tensor("output.weight", [hidden, vocabulary], "Q8_0"),
  ];
}

/**
 * Bytes that one decode step of such a model reads: all weights, but of the embedding only one row, and the float16
 * keys and values of the tokens before it.
 *
 * @param {Shape} shape
 * @param {string} linearFormat
 * @param {number} cachedTokens
 */
export function bytesPerStep(shape, linearFormat, cachedTokens) {
  const kvWidth = (shape.hidden / shape.heads) * shape.kvHeads;
  return listTensors(shape, linearFormat).reduce(
    (sum, { name, bytes }) => sum + (name === "token_embd.weight" ? bytes / shape.vocabulary : bytes),
    cachedTokens * shape.layers * 2 * kvWidth * 2,
  );
}

const u32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const f32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** Metadata values by GGUF's numbers of their types. */
const metadataU32 = (key, value) => Buffer.concat([text(key), u32(4), u32(value)]);
const metadataF32 = (key, value) => Buffer.concat([text(key), u32(6), f32(value)]);
const metadataText = (key, value) => Buffer.concat([text(key), u32(8), text(value)]);

const padding = (bytes) => (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;

/** @param {Shape} shape @param {Tensor[]} tensors */
function header(shape, tensors) {
  const metadata = [
    metadataText("general.architecture", "llama"),
    metadataText("general.name", "random weights"),
    metadataU32("general.alignment", ALIGNMENT),
    metadataU32("general.quantization_version", 2),
    metadataU32("llama.block_count", shape.layers),
    metadataU32("llama.context_length", shape.context),
    metadataU32("llama.embedding_length", shape.hidden),
    metadataU32("llama.feed_forward_length", shape.intermediate),
    metadataU32("llama.attention.head_count", shape.heads),
    metadataU32("llama.attention.head_count_kv", shape.kvHeads),
    metadataF32("llama.attention.layer_norm_rms_epsilon", shape.epsilon),
    metadataU32("llama.rope.dimension_count", shape.hidden / shape.heads),
    metadataF32("llama.rope.freq_base", shape.ropeBase),
    metadataU32("llama.vocab_size", shape.vocabulary),
    metadataText("tokenizer.ggml.model", "no_vocab"),
  ];
  let offset = 0;
  const entries = tensors.map(({ name, shape: dimensions, format, bytes }) => {
    const type = format === "F32" ? 0 : QUANTIZED[format].type;
    const entry = Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset)]);
    offset += bytes + padding(bytes);
    return entry;
  });
  const head = [Buffer.from("GGUF"), u32(3), u64(tensors.length), u64(metadata.length), ...metadata, ...entries];
  const bytes = head.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([...head, Buffer.alloc(padding(bytes))]);
}

/** Bytes whose four 2-bit fields are all below 3. */
const TERNARY_BYTES = Uint8Array.from({ length: 256 }, (_, byte) => byte).filter(
  (byte) => (byte & 3) < 3 && ((byte >> 2) & 3) < 3 && ((byte >> 4) & 3) < 3 && byte >> 6 < 3,
);

/** Marsaglia's xorshift32. */
function* randomWords(seed) {
  let state = seed;
  while (true) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

/**
 * About 2 MiB of random blocks, which the tensors of a format repeat, each from another block on: timing needs no
 * more randomness, and the file is written at the disk's speed.
 *
 * @param {BlockFormat} format
 */
function randomBlocks(format, words) {
  const count = Math.floor(2 ** 21 / format.bytes);
  const bytes = Buffer.alloc(count * format.bytes);
  for (let i = 0; i < bytes.length; i++) {
    // The upper half of a word of xorshift32 is the more random one.
    const random = words.next().value >>> 16;
    bytes[i] = format.ternary ? TERNARY_BYTES[random % TERNARY_BYTES.length] : random;
  }
  for (const [offset, bits] of Object.entries(format.halves)) {
    for (let block = 0; block < count; block++) bytes.writeUInt16LE(bits, block * format.bytes + Number(offset));
  }
  return bytes;
}

/** Writes all of `bytes`: writeSync may take less. */
function writeFully(file, bytes) {
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}

/** The pieces of a tensor's data, one after the other. */
function* tensorData({ format, bytes }, pool, words) {
  if (format === "F32") {
    yield Buffer.from(new Uint32Array(bytes / 4).fill(ONE_FLOAT32).buffer);
    return;
  }
  const blockBytes = QUANTIZED[format].bytes;
  let start = (words.next().value % (pool.length / blockBytes)) * blockBytes;
  for (let left = bytes; left > 0; ) {
    const piece = pool.subarray(start, start + Math.min(left, pool.length - start));
    yield piece;
    left -= piece.length;
    start = 0;
  }
}

/**
 * Makes the model file, unless one of the expected size is there. It gets its name when it is complete.
 *
 * @param {string} path
 * @param {Shape} shape
 * @param {string} linearFormat one of LINEAR_FORMATS
 */
export function ensureRandomGguf(path, shape, linearFormat) {
  if (!LINEAR_FORMATS.includes(linearFormat)) {
    throw new Error(
      `Cannot make a random GGUF: unknown format, received ${linearFormat}, expected ${LINEAR_FORMATS.join(", ")}`,
    );
  }
  const tensors = listTensors(shape, linearFormat);
  const head = header(shape, tensors);
  const size = tensors.reduce((sum, { bytes }) => sum + bytes + padding(bytes), head.length);
  if (existsSync(path) && statSync(path).size === size) return;

  const words = randomWords(0x9e3779b9);
  const formats = [...new Set(tensors.map(({ format }) => format))].filter((format) => format !== "F32");
  const pools = new Map(formats.map((format) => [format, randomBlocks(QUANTIZED[format], words)]));
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.partial-${process.pid}`;
  try {
    const file = openSync(partial, "w");
    try {
      writeFully(file, head);
      for (const entry of tensors) {
        for (const piece of tensorData(entry, pools.get(entry.format), words)) writeFully(file, piece);
        writeFully(file, Buffer.alloc(padding(entry.bytes)));
      }
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
  } finally {
    rmSync(partial, { force: true });
  }
}
