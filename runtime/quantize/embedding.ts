/** Embedding and head as the model will hold them: in 16 bits, or packed along their width. */
import type { Context } from "../../ffi/mod.ts";
import { FormatError } from "../formats/failure.ts";
import { floatsToHalves } from "../formats/floats.ts";
import type { StoredTensor } from "../formats/safetensors.ts";
import type { TensorToWrite } from "../formats/safetensors_writer.ts";
import type { StoredTable } from "./assemble.ts";
import { copied } from "./block_file.ts";
import { dequantizeStored } from "./dequantize.ts";
import { roundToHalf } from "./lut.ts";
import type { AffineWeights } from "./method.ts";
import { embeddingGroup, packEmbedding } from "./pack_embedding.ts";
import type { EmbeddingBits } from "./settings.ts";
import { type Source, TableRows } from "./source.ts";
import { storageSettings, storedTensors } from "./stored_tensors.ts";

/** Values of a table that are held in float32 at once. */
const SLAB_VALUES = 4 << 20;

/** What rows [n, hidden] of the embedding become when they are stored. */
export type StoredRows = (rows: Float32Array) => Float32Array;

export function storedRows(context: Context, { embedding }: Source, bits: EmbeddingBits): StoredRows {
  if (bits === 16) return embedding.dtype === "F32" ? roundToHalf : (rows) => rows;
  const width = embedding.shape[1]!;
  return (rows) => {
    const count = rows.length / width;
    return dequantizeStored(packEmbedding(context, rows, [count, width], bits), count, width);
  };
}

/** Embedding, and head where it is not the embedding. */
export function storedTables(context: Context, { embedding, head }: Source, bits: EmbeddingBits): StoredTable[] {
  return [embedding, ...(head === null ? [] : [head])].map((table) => {
    const module = table.name.replace(/\.weight$/, "");
    if (bits === 16) return { module, storage: { family: "dense" }, tensors: [in16Bits(table)] };
    const weights = packTable(context, table, bits);
    const shape = [table.shape[0]!, table.shape[1]!] as const;
    return { module, storage: storageSettings(weights), tensors: storedTensors(module, weights, shape) };
  });
}

/** Packs a table slab by slab: it is never in float32 as a whole. */
function packTable(context: Context, table: StoredTensor, bits: 8 | 4): AffineWeights {
  const [rows, width] = [table.shape[0]!, table.shape[1]!];
  const group = embeddingGroup(width);
  const groups = width / group;
  const q = new Uint8Array(rows * width);
  const scales = new Float32Array(rows * groups);
  const zeros = new Float32Array(rows * groups);
  const slabRows = Math.max(1, Math.floor(SLAB_VALUES / width));
  using source = new TableRows(table);
  for (let first = 0; first < rows; first += slabRows) {
    const count = Math.min(slabRows, rows - first);
    const slab = new Float32Array(count * width);
    for (let row = 0; row < count; row++) slab.set(source.read(first + row), row * width);
    const part = packEmbedding(context, slab, [count, width], bits);
    q.set(part.q, first * width);
    scales.set(part.scales, first * groups);
    zeros.set(part.zeros, first * groups);
  }
  return { family: "affine", bits, group, q, scales, zero: "integer", zeros };
}

/** F16 and BF16 as they are, F32 rounded to F16 row by row. */
function in16Bits(table: StoredTensor): TensorToWrite {
  if (table.dtype !== "F32") return copied(table);
  return {
    name: table.name,
    dtype: "F16",
    shape: table.shape,
    *data() {
      using rows = new TableRows(table);
      for (let row = 0; row < table.shape[0]!; row++) yield halfRow(table, rows.read(row));
    },
  };
}

function halfRow(table: StoredTensor, row: Float32Array): Uint8Array {
  const halves = floatsToHalves(row);
  const bad = new Float16Array(halves.buffer).findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return new Uint8Array(halves.buffer);
  const reason = "a value that float16 cannot hold";
  throw new FormatError("use", { file: table.path, tensor: table.name, reason, received: row[bad] });
}
