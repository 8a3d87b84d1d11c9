/**
 * What a quantization method is: a plug-in that turns the dense linears of one decoder block into storage families. A method is one
 * file under methods/; adding one touches that file and registry.ts.
 */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { DecoderConfig } from "../models/config.ts";
import type { BlockWeights, Linear } from "../models/weights.ts";

/** LoRA of one linear, in peft's layout: y += scale (x A^T) B^T with scale = alpha / rank. */
export interface LoraMatrices {
  /** float32 [rank, in] */
  readonly a: Float32Array;
  /** float32 [out, rank] */
  readonly b: Float32Array;
  readonly rank: number;
  readonly alpha: number;
  /** DoRA's magnitude, float32 [out] (arXiv 2402.09353); null for plain LoRA. */
  readonly magnitude: Float32Array | null;
}

/** w = scale (q - zero), groups along `in`. Scales (and float zeros' minima) are float16 values held in float32. */
export interface AffineWeights {
  readonly family: "affine";
  readonly bits: 2 | 3 | 4 | 8;
  readonly group: 32 | 64 | 128;
  /** uint8 [out, in] */
  readonly q: Uint8Array;
  /** [out, in / group] */
  readonly scales: Float32Array;
  /** "integer": z in 0 .. 2^bits - 1; "float": w = scale q + m, m a float16 value. [out, in / group] */
  readonly zero: "integer" | "float";
  readonly zeros: Float32Array;
}

/** w = scale * table[q], groups along `in`. */
export interface LutWeights {
  readonly family: "lut";
  readonly bits: 2 | 3 | 4;
  readonly group: 32 | 64 | 128;
  /** uint8 [out, in] */
  readonly q: Uint8Array;
  /** float32 [2^bits] */
  readonly table: Float32Array;
  /** float16 values, [out, in / group]; where `double` is given, what it decodes to, rounded to float16 */
  readonly scales: Float32Array;
  /** Double quantization of the scales (QLoRA, arXiv 2305.14314): scale = code value * absmax[i / 256] + offset; null: float16 scales. */
  readonly double: { readonly codes: Uint8Array; readonly absmax: Float32Array; readonly offset: number } | null;
}

/** Left in 16 bits. */
export interface DenseWeights {
  readonly family: "dense";
  /** float32 [out, in], float16 values */
  readonly values: Float32Array;
}

export type StoredWeights = AffineWeights | LutWeights | DenseWeights;

/** What a method makes of one linear. */
export interface QuantizedLinear {
  readonly weights: StoredWeights;
  readonly lora: LoraMatrices | null;
}

/** Hidden states of the calibration samples before or after a block: float32 [length, hidden] each, on the device when asked for. */
export interface CalibrationStream {
  readonly samples: number;
  /** Tokens of a sample. */
  readonly length: number;
  readonly hidden: number;
  /** Sample `index`, valid until the next call on the same stream. */
  read(index: number): Ref;
}

/** A stream of a method's own. */
export interface ScratchStream extends CalibrationStream, Disposable {
  /** Copies sample `index` from `from`, which is no sample of this stream. */
  write(index: number, from: Ref): void;
}

/** Settings all methods share; each reads those it knows. Defaults are in settings.ts. */
export interface MethodSettings {
  readonly bits: 2 | 3 | 4 | 8;
  readonly group: 32 | 64 | 128;
  readonly rank: number;
  readonly alpha: number;
  readonly dora: boolean;
  readonly epochs: number;
  readonly loraLearningRate: number;
  readonly clippingLearningRate: number;
  /** Passes over the samples that train the scales of the whole model after its last block, where a method does; 0: none. */
  readonly endToEndEpochs: number;
  /** Of those scales, relative to each. */
  readonly endToEndLearningRate: number;
  /** Of the weights themselves, where they train. */
  readonly weightLearningRate: number;
  /** Learning rates stay as they are, or fall to 0 along half a cosine over a block's steps. */
  readonly schedule: "constant" | "cosine";
  readonly weightDecay: number;
  /** Also match the full-precision block on the quantized input (ApiQ's --aug-loss). */
  readonly augLoss: boolean;
  /** GPTQ: part of the mean diagonal added to the Gram matrix. */
  readonly damping: number;
  /** LoftQ: rounds of quantization and SVD, 1 to 5. */
  readonly iterations: number;
  /** Base of LoftQ: affine or normal-float. */
  readonly base: "affine" | "nf";
  readonly doubleQuantization: boolean;
  readonly seed: number;
}

/** What a user can set and not every method heeds. `seed` is everyone's: it also chooses calibration windows. */
export type MethodOption = Exclude<keyof MethodSettings, "seed"> | "init" | "bitsFor";

export interface MethodEvent {
  /** Linear or group of linears, or null for the whole block. */
  readonly part: string | null;
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly steps: number;
  /** Mean loss of the epoch so far, or null where a method has none. */
  readonly loss: number | null;
}

/** One block's work. */
export interface BlockJob {
  readonly context: Context;
  readonly config: DecoderConfig;
  readonly layer: number;
  /** Dense float32 weights on the device; a method that changes them in place does so only within its call. */
  readonly block: BlockWeights;
  /** float32 [headDim / 2] */
  readonly inverseFrequencies: Ref;
  readonly settings: MethodSettings;
  /** Linears that stay in 16 bits (--keep). */
  readonly kept: ReadonlySet<Linear>;
  /** Bits of those that have others than settings.bits, by module name (--bits-for; bits_for.ts); absent: none. */
  readonly bitsFor?: ReadonlyMap<string, MethodSettings["bits"]>;
  /** The result this run starts from (--init-from), by module name; null without. */
  readonly init: ReadonlyMap<string, QuantizedLinear> | null;
  /** Calibration; null for methods that need none. */
  readonly calibration: {
    /** What the quantized prefix gives: the block's input as it will be served. */
    readonly inputs: CalibrationStream;
    /** The full-precision stream before the block. */
    readonly referenceInputs: CalibrationStream;
    /** The full-precision block's output on `referenceInputs`. */
    readonly targets: CalibrationStream;
    /** A stream of as many samples with `hidden` numbers a token, kept where the others are. */
    readonly scratch: (name: string, hidden: number) => ScratchStream;
  } | null;
  /** Reports progress, and lets signals and timers have their turn; rejects when the run is to stop. */
  readonly report: (event: MethodEvent) => Promise<void>;
}

/** Work on the whole model, after its last block. */
export interface ModelJob {
  readonly context: Context;
  /** The model as the blocks left it: a folder that could be served. */
  readonly checkpoint: Checkpoint;
  readonly config: DecoderConfig;
  readonly settings: MethodSettings;
  /** int32 token ids of the calibration samples, equally many each. */
  readonly samples: readonly Int32Array[];
  /** Reports progress, and lets signals and timers have their turn; rejects when the run is to stop. */
  readonly report: (event: MethodEvent) => Promise<void>;
}

/** What a linear becomes, given what it is. */
export type Revision = (module: string, linear: QuantizedLinear) => QuantizedLinear;

export interface QuantizationMethod {
  readonly name: string;
  /** One line for the help. */
  readonly summary: string;
  /** Where the algorithm is published. */
  readonly source: string;
  readonly needsCalibration: boolean;
  /** What it heeds; anything else given with it is refused. */
  readonly uses: readonly MethodOption[];
  /** What it takes by default where that is not settings.ts's; --preset paper leaves it aside. */
  readonly defaults?: Partial<MethodSettings>;
  /** Bytes of device memory a block takes besides its weights and streams, for --dry-run. */
  workingBytes(config: DecoderConfig, settings: MethodSettings, length: number): number;
  /** Numbers a token, each, of the scratch streams that are open at once; none where absent. */
  scratchWidths?(config: DecoderConfig, settings: MethodSettings): readonly number[];
  /** All linears of the block that are not kept, by module name. Deterministic in the job and its seed. */
  quantizeBlock(job: BlockJob): Promise<Map<string, QuantizedLinear>>;
  /** Runs once all blocks are made, unless settings.endToEndEpochs is 0 or there is no calibration. Deterministic like the rest. */
  finish?(job: ModelJob): Promise<Revision>;
  /** Bytes of device memory that `finish` takes in all, for --dry-run. */
  finishBytes?(config: DecoderConfig, settings: MethodSettings, length: number): number;
}
