/** Ops that execute: every call launches a kernel on the context (or is recorded into the graph being made). */
import { ACTIVATIONS_F32, ACTIVATIONS_INT8, type Context, F16, F32, type Ref, type Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { LoraTable } from "../models/lora.ts";
import type { Linear, Norm } from "../models/weights.ts";
import { type Arena, elements, type Tensor } from "../tensor.ts";
import type { Ops } from "./ops.ts";

/** Positions a block of the KV cache holds. 16 fills one vector of keys. */
export const KV_BLOCK_SIZE = 16;

/** What an op must know about the rows of the current step. All live in device buffers and change without re-recording. */
export interface Batch {
  /** int32 [rows] */
  readonly ids: Ref;
  /** int32 [rows], the row's place in its sequence */
  readonly positions: Ref;
  /** int32 [rows], the row of `blockTables`, negative for padding */
  readonly sequences: Ref;
  /** int32 [rows, 2], LoRA slots: calibrated, request; -1 for none */
  readonly loraSlots: Ref;
  /** int32 [maxSequences, maxBlocks] */
  readonly blockTables: Ref;
  readonly maxSequences: number;
  readonly maxBlocks: number;
}

/** The paged cache of all layers; a layer's part is [blocks, kvHeads, 16 * headDim] for k and for v. */
export interface KvCache {
  readonly k: readonly Ref[];
  readonly v: readonly Ref[];
  readonly dtype: "f16" | "f32";
  readonly blocks: number;
}

export interface InferenceOptions {
  context: Context;
  config: DecoderConfig;
  arena: Arena;
  batch: Batch;
  kv: KvCache;
  lora: LoraTable | null;
  inverseFrequencies: Ref;
  activations: "int8" | "f32";
}

export class InferenceOps implements Ops {
  readonly #o: InferenceOptions;
  #rows = 0;
  #ropeTable: Tensor | null = null;

  constructor(options: InferenceOptions) {
    this.#o = options;
  }

  /** Begins a pass over the first `rows` rows of the batch: the arena is empty and the rotation angles are computed. */
  begin(rows: number): void {
    const { context, config, arena, batch, inverseFrequencies } = this.#o;
    this.#rows = rows;
    arena.reset(0);
    const half = config.headDim / 2;
    this.#ropeTable = arena.take([rows, 2, half]);
    context.ropeTable({
      positions: batch.positions,
      invFreq: inverseFrequencies,
      table: this.#ropeTable.ref,
      rows,
      halfDim: half,
      scale: 1,
    });
  }

  embedding(table: Weight): Tensor {
    return this.gather(table, this.#o.batch.ids, this.#rows);
  }

  /** Rows `ids` (int32 [rows]) of any table. */
  gather(table: Weight, ids: Ref, rows: number): Tensor {
    const y = this.#o.arena.take([rows, table.inFeatures]);
    this.#o.context.embedding({ table, ids, y: y.ref, rows });
    return y;
  }

  rmsNorm(x: Tensor, norm: Norm): Tensor {
    const y = this.#o.arena.take(x.shape);
    this.#o.context.rmsNorm({
      x: x.ref,
      weight: norm.weight,
      y: y.ref,
      rows: elements(x.shape) / norm.size,
      cols: norm.size,
      xStride: norm.size,
      yStride: norm.size,
      eps: this.#o.config.rmsNormEps,
    });
    return y;
  }

  linear(x: Tensor, linears: readonly Linear[]): Tensor[] {
    const { context, arena, activations, lora, batch } = this.#o;
    const [rows, inFeatures] = x.shape;
    const outputs = linears.map(({ weight }) => arena.take([rows, weight.outFeatures]));
    context.linear({
      x: x.ref,
      rows,
      inFeatures,
      activations: activations === "f32" ? ACTIVATIONS_F32 : ACTIVATIONS_INT8,
      parts: linears.map(({ weight, bias }, i) => ({ weight, bias, y: outputs[i].ref })),
    });
    if (lora && linears[0].loraTarget >= 0) {
      context.lora({
        x: x.ref,
        pool: lora.pool,
        poolBytes: lora.poolBytes,
        rowSlots: batch.loraSlots,
        rows,
        inFeatures,
        nSlots: lora.slots,
        maxRank: lora.maxRank,
        parts: linears.map(({ weight, loraTarget }, i) => ({
          slots: lora.slotTable(loraTarget),
          y: outputs[i].ref,
          outFeatures: weight.outFeatures,
        })),
      });
    }
    return outputs;
  }

  rotary(x: Tensor, heads: number): Tensor {
    if (!this.#ropeTable) throw new Error("Cannot rotate: begin() was not called");
    this.#o.context.rotary({
      x: x.ref,
      table: this.#ropeTable.ref,
      rows: x.shape[0],
      nHeads: heads,
      headDim: this.#o.config.headDim,
      inverse: 0,
    });
    return x;
  }

  attention(layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    const { context, config, arena, batch, kv } = this.#o;
    const layout = {
      k: kv.k[layer],
      v: kv.v[layer],
      blockTables: batch.blockTables,
      rowSeq: batch.sequences,
      rowPos: batch.positions,
      dtype: kv.dtype === "f16" ? F16 : F32,
      nBlocks: kv.blocks,
      blockSize: KV_BLOCK_SIZE,
      nKvHeads: config.kvHeads,
      headDim: config.headDim,
      nSeqs: batch.maxSequences,
      maxBlocks: batch.maxBlocks,
      rows: q.shape[0],
    };
    context.kvStore({ kv: layout, keys: k.ref, values: v.ref });
    const y = arena.take(q.shape);
    context.attention({
      kv: layout,
      q: q.ref,
      y: y.ref,
      nHeads: config.heads,
      window: config.windows[layer],
      scale: 1 / Math.sqrt(config.headDim),
    });
    return y;
  }

  siluMul(gate: Tensor, up: Tensor): Tensor {
    this.#o.context.siluMul({ gate: gate.ref, up: up.ref, y: gate.ref, count: elements(gate.shape) });
    return gate;
  }

  add(x: Tensor, delta: Tensor): Tensor {
    this.#o.context.add({ a: x.ref, b: delta.ref, y: x.ref, count: elements(x.shape) });
    return x;
  }

  scope<T>(body: () => T): T {
    const { arena } = this.#o;
    const mark = arena.mark();
    const result = body();
    arena.reset(mark);
    return result;
  }
}
