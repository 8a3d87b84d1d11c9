/**
 * What a decoder is written in. `inference.ts` executes at once (or into a recorded graph); training executes and keeps what the
 * backward pass needs. All activations are float32 [rows, features].
 *
 * Ownership: an op may overwrite the arguments marked "consumed"; their old contents must not be used afterwards.
 */
import type { Weight } from "../../ffi/mod.ts";
import type { Linear, Norm } from "../models/weights.ts";
import type { Tensor } from "../tensor.ts";

export interface Ops {
  /** Rows of the embedding table for the batch's token ids. */
  embedding(table: Weight): Tensor;
  /** Root mean square norm of each row, in pieces of norm.size elements (heads, for Qwen3's q and k norm). */
  rmsNorm(x: Tensor, norm: Norm): Tensor;
  /** y_i = x W_i^T + b_i + the LoRA terms of the batch's rows, for linears that share their input. */
  linear(x: Tensor, linears: readonly Linear[]): Tensor[];
  /** Rotary position embedding at the batch's positions; x [rows, heads * headDim] is consumed. */
  rotary(x: Tensor, heads: number): Tensor;
  /** Causal attention of the batch's rows over their sequences, whose keys and values of `layer` it extends. */
  attention(layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor;
  /** silu(gate) * up; gate is consumed. */
  siluMul(gate: Tensor, up: Tensor): Tensor;
  /** x + delta; x is consumed. */
  add(x: Tensor, delta: Tensor): Tensor;
  /** Runs `body`; what it made is given back afterwards, except storage of its consumed arguments that it returns. */
  scope<T>(body: () => T): T;
}
