/**
 * Gram matrices of what a block's linears see: H = 2/n sum over the calibration rows of x x^T, one per group of linears that
 * share their input. In sequential order, as OPTQ (arXiv 2210.17323) has it, a group sees the outputs of the quantized linears
 * before it.
 */
import { COMPUTE_F32, type Context, type DeviceBuffer, type Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import { decoderBlock } from "../models/decoder.ts";
import type { BlockWeights, Linear } from "../models/weights.ts";
import { TrainingOps, trainingArenaBytes } from "../ops/training.ts";
import { Arena, type Tensor } from "../tensor.ts";
import { calibrationOf } from "./calibration_of.ts";
import { FrozenLinears } from "./frozen.ts";
import type { BlockJob, QuantizedLinear } from "./method.ts";

/** Linears with one input, in forward order: q, k, v; o; gate, up; down. */
export function linearGroups(block: BlockWeights): readonly (readonly Linear[])[] {
  return [[block.q, block.k, block.v], [block.o], [block.gate, block.up], [block.down]];
}

/** Ends a forward pass whose rest nobody needs. */
const SEEN = Symbol("seen");

export class GramCollector implements Disposable {
  readonly #job: BlockJob;
  readonly #arena: DeviceBuffer;
  readonly #ops: TrainingOps;
  readonly #replaced: FrozenLinears;
  #see: (linears: readonly Linear[], x: Tensor) => void = () => {};

  /** @throws where the job has no calibration */
  constructor(job: BlockJob) {
    this.#job = job;
    const { context, config, inverseFrequencies } = job;
    const { length } = calibrationOf(job).inputs;
    this.#arena = context.alloc(gramArenaBytes(config, length, job.settings.rank));
    this.#replaced = new FrozenLinears(context);
    this.#ops = new TrainingOps({
      context,
      config,
      arena: new Arena(this.#arena),
      sequences: 1,
      length,
      inverseFrequencies,
      trainable: this.#replaced.trainable,
      onLinear: (linears, x) => this.#see(linears, x),
    });
  }

  /**
   * The upper triangle of the Gram matrix of a group's inputs over all samples.
   * @param gram float32 [in, in]; what comes to be below the diagonal means nothing
   * @param onSample is awaited before each sample
   */
  async collect(group: readonly Linear[], gram: DeviceBuffer, onSample: () => Promise<void>): Promise<void> {
    const { context, config, block, layer } = this.#job;
    const { inputs } = calibrationOf(this.#job);
    const n = group[0].weight.inFeatures;
    for (let sample = 0; sample < inputs.samples; sample++) {
      await onSample();
      this.#see = (linears, x) => {
        if (!linears.includes(group[0])) return;
        addSquares(context, x.ref, gram.at(0), inputs.length, n, 2 / (inputs.samples * inputs.length), sample > 0);
        throw SEEN;
      };
      this.#ops.begin(false);
      try {
        decoderBlock(this.#ops, config, block, layer, this.#ops.input(inputs.read(sample)));
      } catch (stop) {
        if (stop !== SEEN) throw stop;
      }
      // Memory of a sample is used again for the next.
      context.synchronize();
    }
  }

  /** From now on `linear` computes as it will when it is stored. */
  replace(linear: Linear, quantized: QuantizedLinear): void {
    this.#replaced.add(linear, quantized);
  }

  [Symbol.dispose](): void {
    this.#ops[Symbol.dispose]();
    this.#replaced[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}

/** Rows of the Gram matrix that are computed at once: what they hold below the diagonal is for nothing. */
const GRAM_ROWS = 256;

/** gram [n, n] = or += factor x^T x, x [rows, n], in the upper triangle. */
function addSquares(context: Context, x: Ref, gram: Ref, rows: number, n: number, factor: number, add: boolean): void {
  for (let first = 0; first < n; first += GRAM_ROWS) {
    const columns = { buffer: x.buffer, offset: x.offset + first * 4 };
    context.gemm({
      a: columns,
      b: columns,
      c: { buffer: gram.buffer, offset: gram.offset + first * (n + 1) * 4 },
      m: Math.min(GRAM_ROWS, n - first),
      n: n - first,
      k: rows,
      transposeA: 1,
      transposeB: 0,
      lda: n,
      ldb: n,
      ldc: n,
      alpha: factor,
      beta: add ? 1 : 0,
      compute: COMPUTE_F32,
    });
  }
}

/** Bytes of what a GramCollector holds besides replaced linears. */
export function gramArenaBytes(config: DecoderConfig, length: number, rank: number): number {
  return trainingArenaBytes(config, 1, length, false, { rank });
}
