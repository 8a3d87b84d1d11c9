/** DoRA's rescaled rows (arXiv 2402.09353), as peft computes them: the weight norm counts as a constant in the backward pass. */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { Arena, Tensor } from "../tensor.ts";
import { copyTensor } from "./copy.ts";
import { matmul } from "./matmul.ts";
import type { TrainableLora } from "./training_linear.ts";
import type { UseRows } from "./training_weights.ts";

/** The matrix W that LoRA is added to. */
export interface DoraBase {
  readonly outFeatures: number;
  readonly inFeatures: number;
  /** Calls `use` with all its rows, in order. */
  readonly visit: (use: UseRows) => void;
  /** Frozen LoRA that is part of the matrix. */
  readonly below: TrainableLora | null;
}

/** y = c z with c = magnitude / |W + scale B A|, row by row. */
export class DoraScale {
  readonly #context: Context;
  readonly #arena: Arena;
  readonly #z: Tensor;
  readonly #lora: TrainableLora;
  readonly #weight: DoraBase;
  /** 1 / norms and c, [out] each */
  readonly #inverse: Tensor;
  readonly #c: Tensor;

  /** @param z x W^T + scale (x A^T) B^T, [rows, out], kept until `backward` */
  constructor(context: Context, arena: Arena, z: Tensor, lora: TrainableLora, weight: DoraBase) {
    this.#context = context;
    this.#arena = arena;
    this.#z = z;
    this.#lora = lora;
    this.#weight = weight;
    this.#inverse = arena.take([weight.outFeatures]);
    this.#c = arena.take([weight.outFeatures]);
  }

  forward(y: Tensor): void {
    const { outFeatures: out } = this.#weight;
    const rows = this.#z.shape[0];
    const norms = this.#norms();
    const magnitude = download((this.#lora.dora as { magnitude: Ref }).magnitude, out);
    const inverse = norms.map((norm) => 1 / norm);
    this.#inverse.ref.buffer.upload(inverse, this.#inverse.ref.offset);
    this.#c.ref.buffer.upload(
      magnitude.map((m, o) => m / norms[o]),
      this.#c.ref.offset,
    );
    this.#context.scaleColumns({ x: this.#z.ref, scale: this.#c.ref, y: y.ref, rows, cols: out });
  }

  /** |W + scale B A| of each row. */
  #norms(): Float32Array {
    const { outFeatures: out, inFeatures, below } = this.#weight;
    const loras = below ? [below, this.#lora] : [this.#lora];
    const mark = this.#arena.mark();
    const result = this.#arena.take([out]);
    this.#weight.visit((weight, first, n) => {
      const inner = this.#arena.mark();
      const merged = this.#arena.take([n, inFeatures]).ref;
      copyTensor(this.#context, weight, merged, n * inFeatures);
      for (const { a, b, rank, scale } of loras) {
        const rowsOfB = { buffer: b.buffer, offset: b.offset + first * rank * 4 };
        matmul(this.#context, { a: rowsOfB, b: a, c: merged, m: n, n: inFeatures, k: rank, alpha: scale, add: true });
      }
      const y = { buffer: result.ref.buffer, offset: result.ref.offset + first * 4 };
      this.#context.rowNorms({ x: merged, y, rows: n, cols: inFeatures });
      this.#arena.reset(inner);
    });
    this.#arena.reset(mark);
    return download(result.ref, out);
  }

  /** The magnitude's gradient, and c dy: the gradient of z, in the arena. */
  backward(dy: Tensor, add: boolean): Tensor {
    const { outFeatures: cols } = this.#weight;
    const rows = dy.shape[0];
    const dmagnitude = this.#lora.dora?.dmagnitude;
    if (dmagnitude) {
      const mark = this.#arena.mark();
      const dots = this.#arena.take([cols]).ref;
      this.#context.dotColumns({ a: dy.ref, b: this.#z.ref, y: dots, rows, cols, accumulate: 0 });
      this.#context.dotColumns({
        a: dots,
        b: this.#inverse.ref,
        y: dmagnitude,
        rows: 1,
        cols,
        accumulate: add ? 1 : 0,
      });
      this.#arena.reset(mark);
    }
    const dz = this.#arena.take(dy.shape);
    this.#context.scaleColumns({ x: dy.ref, scale: this.#c.ref, y: dz.ref, rows, cols });
    return dz;
  }
}

function download(ref: Ref, count: number): Float32Array {
  return ref.buffer.download(new Float32Array(count), ref.offset);
}
