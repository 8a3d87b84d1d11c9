/** Linear layers of the training ops, forward and backward: a dense or packed base, and LoRA or DoRA on top of it. */
import { type Context, F32, type Ref, WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import { type Arena, elements, type Tensor } from "../tensor.ts";
import { DoraScale } from "./dora.ts";
import type { LoraDropout } from "./dropout.ts";
import { type Compute, type Matmul, matmul } from "./matmul.ts";
import type { Tape } from "./tape.ts";
import type { GroupFactors, TrainingWeights, UseRows } from "./training_weights.ts";

/** LoRA in peft's layout: y += scale (x A^T) B^T (arXiv 2106.09685). Gradients are null where they are not wanted. */
export interface TrainableLora {
  /** float32 [rank, in] */
  readonly a: Ref;
  /** float32 [out, rank] */
  readonly b: Ref;
  readonly da: Ref | null;
  readonly db: Ref | null;
  readonly rank: number;
  readonly scale: number;
  /**
   * DoRA (arXiv 2402.09353): y = c (x W^T + scale (x A^T) B^T), c = magnitude / |W + scale B A| with the norm of each row held
   * constant.
   */
  readonly dora: { readonly magnitude: Ref; readonly dmagnitude: Ref | null } | null;
}

export interface TrainableFactors {
  readonly value: GroupFactors;
  /** Sum over each group of dW * stored weight; null where it is not wanted. */
  readonly gradient: GroupFactors | null;
}

/** How a linear runs in training. A backward pass overwrites its gradients, or adds to them where it is told so. */
export interface TrainableLinear {
  /** float32 [out, in] used in this step; null: the linear's own weight. */
  readonly weight: Ref | null;
  /** float32 [out, in] */
  readonly dweight: Ref | null;
  readonly lora: TrainableLora | null;
  /** Frozen plain LoRA that belongs to the weight: what `lora` comes on top of. */
  readonly below?: TrainableLora | null;
  /** Multiply the linear's own weight, which is packed: how its scales train. Absent: 1. */
  readonly factors?: TrainableFactors;
  /** Called once the linear's gradients have been enqueued; a `dweight` shared by several linears is used up here. */
  readonly gradientsReady?: () => void;
}

/** Whether anything of a linear wants a gradient. */
export function learns(trainable: TrainableLinear | null | undefined): boolean {
  const { dweight, factors, lora } = trainable ?? {};
  return Boolean(dweight || factors?.gradient || lora?.da || lora?.db || lora?.dora?.dmagnitude);
}

export interface LinearContext {
  readonly context: Context;
  readonly arena: Arena;
  readonly weights: TrainingWeights;
  /** float32 [rows], all 1 */
  readonly ones: Ref;
  readonly dropout: LoraDropout | null;
  /** Of all products with x, dy and the weights. */
  readonly compute: Compute;
}

/** One linear's forward pass, with what its backward pass reads. */
export class LinearPass {
  readonly #o: LinearContext;
  readonly #x: Tensor;
  readonly #linear: Linear;
  readonly #weight: Weight;
  readonly trainable: TrainableLinear | null;
  readonly y: Tensor;
  /** x A^T, [rows, rank] */
  #low: Tensor | null = null;
  #dora: DoraScale | null = null;

  /** @param y [rows, out], where the result goes */
  constructor(options: LinearContext, x: Tensor, linear: Linear, trainable: TrainableLinear | null, y: Tensor) {
    this.#o = options;
    this.#x = x;
    this.#linear = linear;
    this.trainable = trainable;
    this.y = y;
    const { outFeatures, inFeatures } = linear.weight;
    this.#weight = trainable?.weight
      ? { data: trainable.weight, kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures, inFeatures }
      : linear.weight;
  }

  /** Whether it has parameters that want a gradient. */
  get learns(): boolean {
    return learns(this.trainable);
  }

  /** @param outputRead whether anyone reads y; if not, only what the backward pass needs is computed */
  forward(outputRead = true): void {
    if (!outputRead && !this.trainable?.lora?.dora) {
      if (this.trainable?.lora?.db) this.#low = this.#throughA(this.trainable.lora);
      return;
    }
    const { context, arena, ones } = this.#o;
    const { outFeatures: out, inFeatures } = this.#weight;
    const rows = this.y.shape[0];
    const lora = this.trainable?.lora ?? null;
    const { bias } = this.#linear;
    const product = lora?.dora ? arena.take(this.y.shape) : this.y;
    const addBias = (add: boolean): void =>
      matmul(context, { a: ones, b: bias as Ref, c: this.y.ref, m: rows, n: out, k: 1, add });
    const biasFirst = bias !== null && product === this.y;
    if (biasFirst) addBias(false);
    this.#visit((weight, first, n) =>
      this.#matmul({
        a: this.#x.ref,
        b: weight,
        c: offset(product.ref, first),
        m: rows,
        n,
        k: inFeatures,
        transposeB: true,
        ldc: out,
        add: biasFirst,
      }),
    );
    if (this.trainable?.below) this.#addBelow(this.trainable.below, product);
    if (!lora) return;
    this.#low = this.#throughA(lora);
    const { b, rank, scale: alpha } = lora;
    const shape = { m: rows, n: out, k: rank };
    this.#matmul({ a: this.#low.ref, b, c: product.ref, ...shape, transposeB: true, alpha, add: true });
    if (!lora.dora) return;
    const below = this.trainable?.below ?? null;
    const base = { outFeatures: out, inFeatures, below, visit: (use: UseRows) => this.#visit(use) };
    this.#dora = new DoraScale(context, arena, product, lora, base);
    this.#dora.forward(this.y);
    if (bias) addBias(true);
  }

  #matmul(args: Matmul): void {
    matmul(this.#o.context, args, this.#o.compute);
  }

  /** x A^T, [rows, rank] */
  #throughA({ a, rank }: TrainableLora): Tensor {
    const { arena } = this.#o;
    const rows = this.y.shape[0];
    const low = arena.take([rows, rank]);
    const mark = arena.mark();
    const shape = { m: rows, n: rank, k: this.#weight.inFeatures };
    this.#matmul({ a: this.#loraInput(), b: a, c: low.ref, ...shape, transposeB: true });
    arena.reset(mark);
    return low;
  }

  #addBelow({ a, b, rank, scale: alpha }: TrainableLora, y: Tensor): void {
    const { arena } = this.#o;
    const [m, n] = y.shape;
    const k = this.#weight.inFeatures;
    const mark = arena.mark();
    const low = arena.take([m, rank]).ref;
    this.#matmul({ a: this.#x.ref, b: a, c: low, m, n: rank, k, transposeB: true });
    this.#matmul({ a: low, b, c: y.ref, m, n, k: rank, transposeB: true, alpha, add: true });
    arena.reset(mark);
  }

  /** Of LoRA's input; null where there is none: LoRA that takes part without being trained keeps all of it. */
  get #dropout(): LoraDropout | null {
    const { dropout } = this.#o;
    const { lora } = this.trainable ?? {};
    return dropout?.active && (lora?.da || lora?.db) ? dropout : null;
  }

  /** What LoRA multiplies with: x, or what dropout leaves of it, in the arena. */
  #loraInput(): Ref {
    const { context, arena } = this.#o;
    const dropout = this.#dropout;
    if (!dropout) return this.#x.ref;
    const { ref } = arena.take(this.#x.shape);
    dropout.apply(context, this.#linear, this.#x.ref, ref, elements(this.#x.shape));
    return ref;
  }

  /** Calls `use` with all rows of the weight, in order, times their factors. */
  #visit(use: UseRows): void {
    const { weights } = this.#o;
    const factors = this.trainable?.factors;
    weights.visit(this.#weight, (weight, first, n) => {
      if (factors) weights.scale(this.#weight, weight, factors.value, first, n);
      use(weight, first, n);
    });
  }

  /**
   * Gradients of the parameters, and of x where `dx` is given.
   * @param add whether they add to what the parameters' gradients hold
   * @param addDx the same for dx
   */
  backward(dy: Tensor, dx: Tensor | null, add: boolean, addDx: boolean): void {
    const { arena, weights } = this.#o;
    const { outFeatures: out, inFeatures } = this.#weight;
    const rows = dy.shape[0];
    const mark = arena.mark();
    if (this.#dora) dy = this.#dora.backward(dy, add);
    const factors = this.trainable?.factors;
    if (dx || factors?.gradient) {
      weights.visit(this.#weight, (weight, first, k) => {
        if (factors?.gradient) this.#factorsBackward(factors.gradient, weight, dy, first, k, add);
        if (!dx) return;
        if (factors) weights.scale(this.#weight, weight, factors.value, first, k);
        this.#matmul({
          a: offset(dy.ref, first),
          b: weight,
          c: dx.ref,
          m: rows,
          n: inFeatures,
          k,
          lda: out,
          add: addDx || first > 0,
        });
      });
    }
    const dweight = this.trainable?.dweight;
    if (dweight) {
      const shape = { m: out, n: inFeatures, k: rows };
      this.#matmul({ a: dy.ref, b: this.#x.ref, c: dweight, ...shape, transposeA: true, add });
    }
    if (this.trainable?.below && dx) this.#belowBackward(this.trainable.below, dy, dx);
    if (this.trainable?.lora) this.#loraBackward(this.trainable.lora, dy, dx, add);
    this.trainable?.gradientsReady?.();
    arena.reset(mark);
  }

  /** @param stored rows `first` to `first + n` of the weight before its factors */
  #factorsBackward(gradient: GroupFactors, stored: Ref, dy: Tensor, first: number, n: number, add: boolean): void {
    const { context, arena } = this.#o;
    const { inFeatures, group: cols, outFeatures } = this.#weight;
    const mark = arena.mark();
    const dweight = arena.take([n, inFeatures]).ref;
    const operands = { a: offset(dy.ref, first), b: this.#x.ref, c: dweight, transposeA: true, lda: outFeatures };
    this.#matmul({ ...operands, m: n, n: inFeatures, k: dy.shape[0] });
    const groups = inFeatures / cols;
    const y = offset(gradient, first * groups);
    context.dotRows({ a: dweight, b: stored, y, rows: n * groups, cols, accumulate: add ? 1 : 0 });
    arena.reset(mark);
  }

  #belowBackward({ a, b, rank, scale: alpha }: TrainableLora, dy: Tensor, dx: Tensor): void {
    const { arena } = this.#o;
    const [m, out] = dy.shape;
    const mark = arena.mark();
    const low = arena.take([m, rank]).ref;
    this.#matmul({ a: dy.ref, b, c: low, m, n: rank, k: out, alpha });
    this.#matmul({ a: low, b: a, c: dx.ref, m, n: this.#weight.inFeatures, k: rank, add: true });
    arena.reset(mark);
  }

  #loraBackward(lora: TrainableLora, dy: Tensor, dx: Tensor | null, add: boolean): void {
    const { context, arena } = this.#o;
    const { outFeatures: out, inFeatures } = this.#weight;
    const { a, b, da, db, rank, scale: alpha } = lora;
    const rows = dy.shape[0];
    const low = this.#low as Tensor;
    if (db) this.#matmul({ a: dy.ref, b: low.ref, c: db, m: out, n: rank, k: rows, transposeA: true, alpha, add });
    if (!da && !dx) return;
    const dlow = arena.take([rows, rank]);
    this.#matmul({ a: dy.ref, b, c: dlow.ref, m: rows, n: rank, k: out, alpha });
    const mark = arena.mark();
    if (da) {
      const x = this.#loraInput();
      this.#matmul({ a: dlow.ref, b: x, c: da, m: rank, n: inFeatures, k: rows, transposeA: true, add });
    }
    arena.reset(mark);
    if (!dx) return;
    const toInput = { a: dlow.ref, b: a, m: rows, n: inFeatures, k: rank };
    const dropout = this.#dropout;
    if (!dropout) {
      this.#matmul({ ...toInput, c: dx.ref, add: true });
      return;
    }
    const { ref: c } = arena.take(dx.shape);
    this.#matmul({ ...toInput, c });
    dropout.apply(context, this.#linear, c, dx.ref, elements(dx.shape), true);
  }
}

/** Linears that share their input: their gradients of it add up in its one gradient. */
export function linearBackward(tape: Tape, arena: Arena, x: Tensor, passes: readonly LinearPass[], add: boolean): void {
  const gradients = passes.map(({ y }) => tape.take(y));
  if (gradients.every((gradient) => gradient === null)) return;
  let dx: Tensor | null = null;
  let addDx = false;
  if (tape.wants(x)) {
    dx = tape.exclusive(x);
    addDx = dx !== null;
    dx ??= arena.take(x.shape);
  }
  const given = addDx;
  for (const [i, gradient] of gradients.entries()) {
    if (!gradient) continue;
    passes[i].backward(gradient.tensor, dx, add, addDx);
    addDx = true;
    tape.release(gradient);
  }
  if (dx && !given) tape.giveNew(x, dx);
}

/** The element `elements` further. */
function offset(ref: Ref, elements: number): Ref {
  return { buffer: ref.buffer, offset: ref.offset + elements * 4 };
}
