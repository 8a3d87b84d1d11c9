/**
 * Ops that execute and, where asked, keep what a backward pass needs: the second implementation of ops.ts, so that what is
 * calibrated and trained is the block that is served. Sequences are whole and unpaged; rows are [sequences, length].
 */
import type { Context, DeviceBuffer, Ref, Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { Linear, Norm } from "../models/weights.ts";
import { type Arena, elements, type Tensor } from "../tensor.ts";
import { copyTensor } from "./copy.ts";
import type { Ops } from "./ops.ts";
import { Tape } from "./tape.ts";
import { type LinearContext, LinearPass, linearBackward, type TrainableLinear } from "./training_linear.ts";
import { TrainingWeights } from "./training_weights.ts";

export interface TrainingOptions {
  readonly context: Context;
  readonly config: DecoderConfig;
  /** At least trainingArenaBytes. */
  readonly arena: Arena;
  readonly sequences: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** float32 [headDim / 2] */
  readonly inverseFrequencies: Ref;
  /** How linears run that train or whose weight is replaced; others run with their own weight, frozen. */
  readonly trainable?: ReadonlyMap<Linear, TrainableLinear>;
  /** Sees the input [rows, in] of linears that share it, before they run. */
  readonly onLinear?: (linears: readonly Linear[], x: Tensor) => void;
  /** int32 [rows], token ids for `embedding`. */
  readonly ids?: Ref;
}

export class TrainingOps implements Ops, Disposable {
  readonly #o: TrainingOptions;
  readonly #rows: number;
  /** int32 positions [rows], then float32 ones [rows], then the rotation angles' cosines and sines [rows, 2, headDim / 2] */
  readonly #constants: DeviceBuffer;
  readonly #ropeTable: Ref;
  readonly #weights: TrainingWeights;
  readonly #linear: LinearContext;
  #tape: Tape | null = null;
  #accumulate = false;

  constructor(options: TrainingOptions) {
    this.#o = options;
    const { context, config, arena, sequences, length } = options;
    this.#rows = sequences * length;
    this.#constants = context.alloc(this.#rows * (8 + config.headDim * 4));
    this.#constants.upload(Int32Array.from({ length: this.#rows }, (_, row) => row % length));
    this.#constants.upload(new Float32Array(this.#rows).fill(1), this.#rows * 4);
    this.#ropeTable = this.#constants.at(this.#rows * 8);
    context.ropeTable({
      positions: this.#constants.at(0),
      invFreq: options.inverseFrequencies,
      table: this.#ropeTable,
      rows: this.#rows,
      halfDim: config.headDim / 2,
      scale: 1,
    });
    this.#weights = new TrainingWeights(context, config);
    this.#linear = { context, arena, weights: this.#weights, ones: this.#constants.at(this.#rows * 4) };
  }

  /**
   * Begins a forward pass: the arena is empty.
   * @param record whether `backward` will follow; if not, consumed arguments are overwritten and memory is reused
   */
  begin(record: boolean): void {
    const { context, arena } = this.#o;
    arena.reset(0);
    this.#tape = record ? new Tape(context, arena) : null;
  }

  /**
   * Rows [sequences * length, width] as the first input. What is at `ref` is never overwritten.
   * @param wantsGradient whether `gradientOf` it will be asked for
   * @param width of a row: the hidden size, for a block's input
   */
  input(ref: Ref, wantsGradient = false, width = this.#o.config.hiddenSize): Tensor {
    const shape = [this.#rows, width];
    if (this.#tape) {
      const x: Tensor = { ref, dtype: "f32", shape };
      if (wantsGradient) this.#tape.want(x);
      return x;
    }
    const x = this.#o.arena.take(shape);
    copyTensor(this.#o.context, ref, x.ref, elements(shape));
    return x;
  }

  embedding(table: Weight): Tensor {
    const { ids, context, arena } = this.#o;
    if (!ids) throw new Error("Cannot look up embeddings: these ops were made without token ids");
    const y = arena.take([this.#rows, table.inFeatures]);
    context.embedding({ table, ids, y: y.ref, rows: this.#rows });
    return y;
  }

  rmsNorm(x: Tensor, norm: Norm): Tensor {
    const { context, arena, config } = this.#o;
    const tape = this.#tape;
    const y = arena.take(x.shape);
    const rows = elements(x.shape) / norm.size;
    const shape = { rows, cols: norm.size, eps: config.rmsNormEps };
    context.rmsNorm({ x: x.ref, weight: norm.weight, y: y.ref, xStride: norm.size, yStride: norm.size, ...shape });
    if (!tape?.wants(x)) return y;
    tape.save(x);
    tape.push([y], () => {
      const gradient = tape.take(y);
      if (!gradient) return;
      const dy = gradient.tensor;
      const sum = tape.exclusive(x);
      const dx = sum ?? (gradient.holders === 1 ? dy : arena.take(x.shape));
      const accumulate = sum ? 1 : 0;
      context.rmsNormBackward({ x: x.ref, weight: norm.weight, dy: dy.ref, dx: dx.ref, accumulate, ...shape });
      tape.release(gradient);
      if (!sum) tape.giveNew(x, dx);
    });
    return y;
  }

  linear(x: Tensor, linears: readonly Linear[]): Tensor[] {
    const { arena, trainable, onLinear } = this.#o;
    const tape = this.#tape;
    onLinear?.(linears, x);
    const passes = linears.map((linear) => {
      const y = arena.take([this.#rows, linear.weight.outFeatures]);
      return new LinearPass(this.#linear, x, linear, trainable?.get(linear) ?? null, y);
    });
    const mark = arena.mark();
    for (const pass of passes) {
      pass.forward();
      if (!tape) arena.reset(mark);
    }
    const outputs = passes.map((pass) => pass.y);
    const differentiated = tape?.wants(x) ? passes : passes.filter((pass) => pass.learns);
    if (tape && differentiated.length > 0) {
      tape.save(x);
      tape.push(
        differentiated.map((pass) => pass.y),
        () => linearBackward(tape, arena, x, differentiated, this.#accumulate),
      );
    }
    return outputs;
  }

  rotary(x: Tensor, heads: number): Tensor {
    const { context, arena, config } = this.#o;
    const tape = this.#tape;
    const table = this.#ropeTable;
    const rotate = (ref: Ref, inverse: 0 | 1): void =>
      context.rotary({ x: ref, table, rows: this.#rows, nHeads: heads, headDim: config.headDim, inverse });
    let y = x;
    if (tape) {
      y = tape.savers(x) === 0 ? { ...x } : arena.take(x.shape);
      if (y.ref !== x.ref) copyTensor(context, x.ref, y.ref, elements(x.shape));
    }
    rotate(y.ref, 0);
    if (!tape?.wants(x)) return y;
    tape.push([y], () => {
      const dy = tape.takeOwn(y);
      if (!dy) return;
      rotate(dy.ref, 1);
      tape.giveNew(x, dy);
    });
    return y;
  }

  attention(layer: number, q: Tensor, k: Tensor, v: Tensor): Tensor {
    const { context, arena, config, sequences, length } = this.#o;
    const tape = this.#tape;
    const y = arena.take(q.shape);
    const lse = arena.take([this.#rows, config.heads]);
    const operands = { q: q.ref, k: k.ref, v: v.ref, rowStart: null, y: y.ref, lse: lse.ref };
    const shape = {
      nSeqs: sequences,
      seqLen: length,
      nHeads: config.heads,
      nKvHeads: config.kvHeads,
      headDim: config.headDim,
      window: config.windows[layer],
      scale: 1 / Math.sqrt(config.headDim),
    };
    context.causalAttention({ ...operands, ...shape });
    if (!tape?.wants(q, k, v)) return y;
    tape.save(q, k, v, y);
    tape.push([y], () => {
      const gradient = tape.take(y);
      if (!gradient) return;
      const [dq, dk, dv] = [q, k, v].map((x) => arena.take(x.shape));
      const gradients = { dy: gradient.tensor.ref, dq: dq.ref, dk: dk.ref, dv: dv.ref };
      context.causalAttentionBackward({ ...operands, ...gradients, ...shape });
      tape.release(gradient);
      tape.giveNew(q, dq);
      tape.giveNew(k, dk);
      tape.giveNew(v, dv);
    });
    return y;
  }

  siluMul(gate: Tensor, up: Tensor): Tensor {
    const { context, arena } = this.#o;
    const tape = this.#tape;
    const count = elements(gate.shape);
    const y = tape ? arena.take(gate.shape) : gate;
    context.siluMul({ gate: gate.ref, up: up.ref, y: y.ref, count });
    if (!tape?.wants(gate, up)) return y;
    tape.save(gate, up);
    tape.push([y], () => {
      const gradient = tape.take(y);
      if (!gradient) return;
      // The gradients take the places of what no other step reads any more.
      const [dgate, dup] = [gate, up].map((x): Tensor => (tape.savers(x) === 1 ? { ...x } : arena.take(x.shape)));
      const operands = { gate: gate.ref, up: up.ref, dy: gradient.tensor.ref };
      context.siluMulBackward({ ...operands, dgate: dgate.ref, dup: dup.ref, count });
      tape.release(gradient);
      tape.giveNew(gate, dgate);
      tape.giveNew(up, dup);
    });
    return y;
  }

  add(x: Tensor, delta: Tensor): Tensor {
    const { context, arena } = this.#o;
    const tape = this.#tape;
    const y = tape ? arena.take(x.shape) : x;
    context.add({ a: x.ref, b: delta.ref, y: y.ref, count: elements(x.shape) });
    if (!tape?.wants(x, delta)) return y;
    tape.push([y], () => {
      const gradient = tape.take(y);
      if (!gradient) return;
      tape.give(x, gradient);
      tape.give(delta, gradient);
      tape.release(gradient);
    });
    return y;
  }

  /** While recording, `body` is only called: its tensors are needed until `backward`. */
  scope<T>(body: () => T): T {
    if (this.#tape) return body();
    const { arena } = this.#o;
    const mark = arena.mark();
    const result = body();
    arena.reset(mark);
    return result;
  }

  /**
   * Fills the gradients of all trainable linears that `output` depends on. Uses up the recording: `begin` comes next.
   * @param gradient of `output`, same shape; overwritten
   * @param accumulate whether gradients add to what their buffers hold
   */
  backward(output: Tensor, gradient: Tensor, accumulate = false): void {
    this.backwardFrom([[output, gradient]], accumulate);
  }

  /** `backward` from several outputs with a gradient each. */
  backwardFrom(outputs: readonly (readonly [output: Tensor, gradient: Tensor])[], accumulate = false): void {
    const tape = this.#tape;
    if (!tape) throw new Error("Cannot run backward: the forward pass was not recorded");
    for (const [output, gradient] of outputs) {
      if (elements(gradient.shape) === elements(output.shape)) continue;
      throw new Error(`Cannot run backward: the gradient received [${gradient.shape}], expected [${output.shape}]`);
    }
    this.#accumulate = accumulate;
    tape.run(outputs);
  }

  /** After `backward`, the gradient of an `input` that wanted one, valid until `begin`. */
  gradientOf(input: Tensor): Tensor {
    const gradient = this.#tape?.finished(input);
    if (!gradient) throw new Error("Cannot give a gradient: the tensor did not want one, or backward did not reach it");
    return gradient;
  }

  [Symbol.dispose](): void {
    this.#weights[Symbol.dispose]();
    this.#constants[Symbol.dispose]();
  }
}
