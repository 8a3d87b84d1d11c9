/** A folder with one decoder block of a known shape and random weights, for timing without a model at hand. */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type TensorToWrite, writeSafetensors } from "../../../runtime/formats/safetensors_writer.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { SHAPES } from "../../../runtime/models/shapes.ts";

export const SHAPE = "smollm2-135m";
/** Goes into the folder's name: a folder that an older version of this file made is not used. */
const VERSION = 1;
/** The embedding's rows that token ids come from; a full table would only take time to write. */
const VOCABULARY = 4096;

/** Makes the folder in the system's place for temporary files unless it is there, and returns its path. */
export async function randomBlockModel(): Promise<string> {
  const dir = join(tmpdir(), "apiq-bench", `block-${SHAPE}-${VERSION}`);
  if (existsSync(dir)) return dir;
  const partial = `${dir}.partial-${process.pid}`;
  mkdirSync(partial, { recursive: true });
  try {
    const config = { ...SHAPES[SHAPE], num_hidden_layers: 1, vocab_size: VOCABULARY, hidden_act: "silu" };
    await writeSafetensors(join(partial, "model.safetensors"), tensorsOf(config));
    writeFileSync(join(partial, "config.json"), JSON.stringify(config));
    renameSync(partial, dir);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return dir;
}

function tensorsOf(json: Record<string, unknown>): TensorToWrite[] {
  const c = parseConfig(json, SHAPE);
  const queries = c.heads * c.headDim;
  const keys = c.kvHeads * c.headDim;
  let seed = 0;
  const matrix = (name: string, rows: number, cols: number, deviation: number): TensorToWrite => {
    const values = normalNumbers(rows * cols, deviation, ++seed);
    return { name: `${name}.weight`, dtype: "F32", shape: [rows, cols], data: new Uint8Array(values.buffer) };
  };
  const norm = (name: string): TensorToWrite => {
    const data = new Uint8Array(new Float32Array(c.hiddenSize).fill(1).buffer);
    return { name: `${name}.weight`, dtype: "F32", shape: [c.hiddenSize], data };
  };
  const block = "model.layers.0";
  // Activations of order one, weights as large as keeps them so.
  const linear = (name: string, rows: number, cols: number) => matrix(`${block}.${name}`, rows, cols, cols ** -0.5);
  return [
    matrix("model.embed_tokens", c.vocabSize, c.hiddenSize, 1),
    norm(`${block}.input_layernorm`),
    linear("self_attn.q_proj", queries, c.hiddenSize),
    linear("self_attn.k_proj", keys, c.hiddenSize),
    linear("self_attn.v_proj", keys, c.hiddenSize),
    linear("self_attn.o_proj", c.hiddenSize, queries),
    norm(`${block}.post_attention_layernorm`),
    linear("mlp.gate_proj", c.intermediateSize, c.hiddenSize),
    linear("mlp.up_proj", c.intermediateSize, c.hiddenSize),
    linear("mlp.down_proj", c.hiddenSize, c.intermediateSize),
    norm("model.norm"),
  ];
}

/** Sums of twelve uniform numbers, near enough to normal, the same for a seed everywhere. */
function normalNumbers(count: number, deviation: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed;
  const uniform = (): number => {
    state = (state * 48271) % 0x7fffffff;
    return state / 0x7fffffff;
  };
  return Float32Array.from({ length: count }, () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += uniform();
    return sum * deviation;
  });
}
