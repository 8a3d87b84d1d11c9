/** The two calibration streams of a run and how they advance from block to block. */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { BlockWeights } from "../models/weights.ts";
import { BlockForward } from "./block_forward.ts";
import type { Calibration } from "./calibration.ts";
import type { StoredRows } from "./embedding.ts";
import type { BlockJob } from "./method.ts";
import { type Source, TableRows } from "./source.ts";
import { openStream, type WritableStream } from "./streams.ts";

/** Lets signals and timers have their turn, and rejects when the run is to stop. */
export type Pause = () => Promise<void>;

export class CalibrationRun implements Disposable {
  readonly #samples: number;
  readonly #forward: BlockForward;
  readonly #context: Context;
  readonly #sampleFloats: number;
  readonly #pause: Pause;
  readonly #open: (name: string, hidden: number) => WritableStream;
  /** The block's input behind quantized blocks, and behind full-precision ones. */
  readonly #inputs: WritableStream;
  #references: WritableStream;
  #targets: WritableStream;

  /** Both streams start as embeddings: `stored` rows in the quantized one, the source's in the other. */
  static async start(
    context: Context,
    source: Source,
    calibration: Calibration,
    options: { inverseFrequencies: Ref; streamDir: string | null; storedRows: StoredRows; pause: Pause },
  ): Promise<CalibrationRun> {
    const run = new CalibrationRun(context, source.config, calibration, options);
    try {
      await run.#embed(source, calibration, options.storedRows);
      return run;
    } catch (error) {
      run[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(
    context: Context,
    config: DecoderConfig,
    { windows, length }: Calibration,
    options: { inverseFrequencies: Ref; streamDir: string | null; pause: Pause },
  ) {
    const { hiddenSize: hidden } = config;
    const samples = windows.length;
    this.#open = (name, hidden) => openStream(context, { samples, length, hidden }, options.streamDir, name);
    this.#context = context;
    this.#samples = samples;
    this.#sampleFloats = length * hidden;
    this.#pause = options.pause;
    this.#forward = new BlockForward(context, config, length, options.inverseFrequencies);
    this.#inputs = this.#open("inputs", hidden);
    this.#references = this.#open("references", hidden);
    this.#targets = this.#open("targets", hidden);
  }

  async #embed({ config, embedding }: Source, { windows }: Calibration, storedRows: StoredRows): Promise<void> {
    using rows = new TableRows(embedding);
    const reference = new Float32Array(this.#sampleFloats);
    for (const [sample, ids] of windows.entries()) {
      for (const [position, id] of ids.entries()) {
        reference.set(rows.read(id), position * config.hiddenSize);
      }
      this.#references.upload(sample, reference);
      this.#inputs.upload(sample, storedRows(reference));
      await this.#pause();
    }
  }

  /** The full-precision block on the full-precision stream, before the block is quantized. */
  async makeTargets(block: BlockWeights, layer: number): Promise<NonNullable<BlockJob["calibration"]>> {
    for (let sample = 0; sample < this.#samples; sample++) {
      this.#targets.write(sample, this.#forward.run(block, layer, this.#references.read(sample)));
      await this.#pause();
    }
    return { inputs: this.#inputs, referenceInputs: this.#references, targets: this.#targets, scratch: this.#open };
  }

  /**
   * Both streams step behind the block: `block` holds what was stored for it.
   *
   * @returns |y' - y| / |y| over all samples, y the full-precision block's output
   */
  async advance(block: BlockWeights, layer: number): Promise<number> {
    using sums = this.#context.alloc(16);
    const count = this.#sampleFloats;
    for (let sample = 0; sample < this.#samples; sample++) {
      const output = this.#forward.run(block, layer, this.#inputs.read(sample));
      this.#inputs.write(sample, output);
      const target = this.#targets.read(sample);
      const mean = { prediction: output, target, grad: null, loss: sums.at(0), count, scale: count, accumulate: 0 };
      this.#context.mseLoss(mean);
      this.#context.sumSquares({ x: target, sum: sums.at(8), count });
      await this.#pause();
    }
    [this.#references, this.#targets] = [this.#targets, this.#references];
    const [wrong, whole] = sums.download(new Float64Array(2));
    return Math.sqrt(wrong! / whole!);
  }

  /** The quantized stream before the next block: after the last one, the hidden states that `serve` will have. */
  get inputs(): WritableStream {
    return this.#inputs;
  }

  [Symbol.dispose](): void {
    for (const stream of [this.#targets, this.#references, this.#inputs]) stream[Symbol.dispose]();
    this.#forward[Symbol.dispose]();
  }
}
