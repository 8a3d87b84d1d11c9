/**
 * Ops that execute and, where asked, keep what a backward pass needs: the second implementation of ops.ts, so that what is
 * calibrated and trained is the block that is served. Sequences are whole and unpaged; rows are [sequences, length].
 */
import type { Context, DeviceBuffer, Ref, Weight } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { Linear, Norm } from "../models/weights.ts";
import { type Arena, elements, type Tensor } from "../tensor.ts";
import { copyTensor } from "./copy.ts";
import type { LoraDropout } from "./dropout.ts";
import type { Compute } from "./matmul.ts";
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
  /** The same for norms. */
  readonly norms?: ReadonlyMap<Norm, TrainableNorm>;
  /** Of LoRA's inputs. */
  readonly dropout?: LoraDropout | null;
  /** How linears multiply; float32 unless given. Norms, attention and the weight norms of DoRA are float32 in any case. */
  readonly compute?: Compute;
  /** Sees the input [rows, in] of linears that share it, before they run. */
  readonly onLinear?: (linears: readonly Linear[], x: Tensor) => void;
  /** int32 [rows], token ids for `embedding`. */
  readonly ids?: Ref;
}

export interface Recording {
  readonly tape: Tape | null;
  /** Of the arena, behind what was recorded. */
  readonly mark: number;
}

/** How a norm runs in training. A backward pass overwrites its gradient, or adds to it where it is told so. */
export interface TrainableNorm {
  /** float32 [size], used instead of the norm's own weight */
  readonly value: Ref;
  /** float32 [size]; null where it is not wanted. */
  readonly gradient: Ref | null;
}

export class TrainingOps implements Ops, Disposable {
  readonly #o: TrainingOptions;
  readonly #rows: number;
  /**
   * int32 positions [rows] and first rows seen [rows], then float32 ones [rows], then the rotation angles' cosines and sines
   * [rows, 2, headDim / 2]
   */
  readonly #constants: DeviceBuffer;
  readonly #ropeTable: Ref;
  #rowStart: Ref | null = null;
  /** Whether the rotation angles are of given positions. */
  #placed = false;
  readonly #weights: TrainingWeights;
  readonly #linear: LinearContext;
  #tape: Tape | null = null;
  #unread: Linear | null = null;
  #accumulate = false;

  constructor(options: TrainingOptions) {
    this.#o = options;
    const { context, config, arena, sequences, length, dropout = null, compute = "f32" } = options;
    this.#rows = sequences * length;
    this.#constants = context.alloc(this.#rows * (12 + config.headDim * 4));
    this.#constants.upload(new Float32Array(this.#rows).fill(1), this.#rows * 8);
    this.#ropeTable = this.#constants.at(this.#rows * 12);
    this.#setPositions();
    this.#weights = new TrainingWeights(context, config);
    const ones = this.#constants.at(this.#rows * 8);
    this.#linear = { context, arena, weights: this.#weights, ones, dropout, compute };
  }

  /**
   * Places the rows of the passes that follow: several examples may lie behind each other in one sequence.
   * @param positions int32 [rows], which the rotary embedding turns by; absent: 0 .. length - 1
   * @param rowStart int32 [rows], the first place in its sequence that a row sees: its example's first; absent: 0
   */
  place(positions?: Int32Array, rowStart?: Int32Array): void {
    for (const [name, given] of Object.entries({ positions, rowStart })) {
      if (!given || given.length === this.#rows) continue;
      throw new Error(`Cannot place the rows: received ${given.length} values of ${name}, expected ${this.#rows}`);
    }
    if (positions || this.#placed) this.#setPositions(positions);
    this.#placed = positions !== undefined;
    this.#rowStart = rowStart ? this.#constants.at(this.#rows * 4) : null;
    if (rowStart) this.#constants.upload(rowStart, this.#rows * 4);
  }

  #setPositions(positions?: Int32Array): void {
    const { context, config, inverseFrequencies, length } = this.#o;
    this.#constants.upload(positions ?? Int32Array.from({ length: this.#rows }, (_, row) => row % length));
    context.ropeTable({
      positions: this.#constants.at(0),
      invFreq: inverseFrequencies,
      table: this.#ropeTable,
      rows: this.#rows,
      halfDim: config.headDim / 2,
      scale: 1,
    });
  }

  /**
   * Begins a forward pass.
   * @param record whether `backward` will follow; if not, consumed arguments are overwritten and memory is reused
   * @param mark of the arena: what lies above it is given back
   * @param unread a linear whose output nobody will read, as of a block that only runs again to be differentiated: it computes what
   * its backward pass needs, and its output is undefined
   */
  begin(record: boolean, mark = 0, unread: Linear | null = null): void {
    const { context, arena } = this.#o;
    arena.reset(mark);
    this.#unread = unread;
    this.#tape = record ? new Tape(context, arena) : null;
  }

  /** What was recorded since `begin`, for `resume`. Its tensors lie between the marks of the arena before and after it. */
  get recording(): Recording {
    return { tape: this.#tape, mark: this.#o.arena.mark() };
  }

  /** Makes an earlier recording the one that `backward` differentiates, as if nothing had been recorded since. */
  resume({ tape, mark }: Recording): void {
    this.#o.arena.reset(mark);
    this.#tape = tape;
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
    const { context, arena, config, norms } = this.#o;
    const tape = this.#tape;
    const { value: weight, gradient: dweight } = norms?.get(norm) ?? { value: norm.weight, gradient: null };
    const y = arena.take(x.shape);
    const rows = elements(x.shape) / norm.size;
    const shape = { rows, cols: norm.size, eps: config.rmsNormEps };
    context.rmsNorm({ x: x.ref, weight, y: y.ref, xStride: norm.size, yStride: norm.size, ...shape });
    const passesOn = tape?.wants(x);
    if (!tape || !(passesOn || dweight)) return y;
    tape.save(x);
    tape.push([y], () => {
      const gradient = tape.take(y);
      if (!gradient) return;
      const dy = gradient.tensor;
      const add = this.#accumulate ? 1 : 0;
      if (dweight) context.rmsNormWeightBackward({ x: x.ref, dy: dy.ref, dweight, accumulate: add, ...shape });
      if (passesOn) {
        const sum = tape.exclusive(x);
        const dx = sum ?? (gradient.holders === 1 ? dy : arena.take(x.shape));
        const accumulate = sum ? 1 : 0;
        context.rmsNormBackward({ x: x.ref, weight, dy: dy.ref, dx: dx.ref, accumulate, ...shape });
        if (!sum) tape.giveNew(x, dx);
      }
      tape.release(gradient);
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
    for (const [i, pass] of passes.entries()) {
      pass.forward(linears[i] !== this.#unread);
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
    const operands = { q: q.ref, k: k.ref, v: v.ref, rowStart: this.#rowStart, y: y.ref, lse: lse.ref };
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
