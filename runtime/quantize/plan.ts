/** --dry-run: what a run would take. Memory is counted; time is measured on the first block with one and two samples. */
import { Context } from "../../ffi/mod.ts";
import { residentBytes } from "../memory.ts";
import { trainingArenaBytes } from "../ops/training.ts";
import { CalibrationRun } from "./calibration_run.ts";
import { bytesToWrite, freeBytes } from "./disk_space.ts";
import { storedRows } from "./embedding.ts";
import type { BlockJob, CalibrationStream } from "./method.ts";
import { type Prepared, prepare, type QuantizeOptions } from "./pipeline.ts";
import { blockBytes, loadBlock, loadInverseFrequencies } from "./source.ts";
import { streamBytes } from "./streams.ts";

export interface MemoryPart {
  readonly part: string;
  readonly bytes: number;
}

export interface RunPlan {
  readonly method: string;
  readonly blocks: number;
  readonly linears: number;
  /** Weights of the linears that will be quantized, and of those that are kept. */
  readonly weights: number;
  readonly keptWeights: number;
  /** null for methods without calibration. */
  readonly calibration: { readonly samples: number; readonly length: number; readonly kind: string } | null;
  /** While blocks are made. */
  readonly memory: readonly MemoryPart[];
  readonly memoryBytes: number;
  /** What the method does to the whole model when the blocks are made: its memory and time; null where it does nothing. */
  readonly finish: { readonly bytes: number; readonly seconds: number } | null;
  /** In files, while the run lasts. */
  readonly streamFileBytes: number;
  /** The blocks and the model that is made of them, where `out` will be. */
  readonly diskBytes: number;
  /** null where the system does not tell. */
  readonly diskFreeBytes: number | null;
  readonly secondsPerBlock: number;
  readonly seconds: number;
  readonly notes: readonly string[];
}

/** Checks everything that a run checks, and writes nothing. */
export async function planRun(options: QuantizeOptions): Promise<RunPlan> {
  const prepared = prepare(options);
  const { source, kept, calibration } = prepared;
  const linears = source.blocks.flat();
  const count = (inside: boolean): number =>
    linears.reduce((sum, l) => (kept.has(l.module) === inside ? sum + l.outFeatures * l.inFeatures : sum), 0);
  const memory = memoryParts(options, prepared);
  const diskBytes = bytesToWrite(options, prepared, 0);
  const diskFreeBytes = freeBytes(options.out) ?? null;
  const short =
    diskFreeBytes !== null && diskFreeBytes < diskBytes ? ["The disk has too little room for the run."] : [];
  const { seconds: secondsPerBlock, forward } = await measure(options, prepared);
  const finish = finishPart(options, prepared, forward);
  return {
    method: options.method.name,
    blocks: source.blocks.length,
    linears: linears.length,
    weights: count(false),
    keptWeights: count(true),
    calibration: calibration && {
      samples: calibration.windows.length,
      length: calibration.length,
      kind: calibration.kind,
    },
    memory,
    memoryBytes: memory.reduce((sum, { bytes }) => sum + bytes, 0),
    finish,
    streamFileBytes: options.streamDir === null ? 0 : streamTotal(options, prepared, false),
    diskBytes,
    diskFreeBytes,
    secondsPerBlock,
    seconds: secondsPerBlock * source.blocks.length + (finish?.seconds ?? 0),
    notes: [...(calibration?.notes ?? []), ...short],
  };
}

/** Of the run's three calibration streams and the method's own, in memory or, with one sample of each in memory, in files. */
function streamTotal({ method, settings }: QuantizeOptions, prepared: Prepared, onDisk: boolean): number {
  const { calibration, source } = prepared;
  if (calibration === null) return 0;
  const { config } = source;
  const { windows, length } = calibration;
  const own = method.scratchWidths?.(config, settings) ?? [];
  const widths = [config.hiddenSize, config.hiddenSize, config.hiddenSize, ...own];
  const bytes = widths.map((hidden) => streamBytes({ samples: windows.length, length, hidden }, onDisk));
  return bytes.reduce((sum, size) => sum + size, 0);
}

function memoryParts(options: QuantizeOptions, prepared: Prepared): MemoryPart[] {
  const { source, calibration } = prepared;
  const { config, blocks } = source;
  const { method, settings, streamDir } = options;
  const length = calibration?.length ?? 0;
  const largest = Math.max(...blocks.flat().map(({ outFeatures, inFeatures }) => outFeatures * inFeatures));
  const stored = blocks[0]!.reduce((sum, linear) => sum + linear.outFeatures * linear.inFeatures, 0);
  const streams = streamTotal(options, prepared, streamDir !== null);
  return [
    { part: "the program, with model and data opened", bytes: residentBytes() },
    { part: "a block in float32", bytes: Math.max(...blocks.map(blockBytes)) },
    { part: `${method.name} on a block`, bytes: method.workingBytes(config, settings, length) },
    { part: "its quantized form", bytes: stored },
    { part: "one linear as it is read and checked", bytes: 3 * 4 * largest },
    ...(calibration === null
      ? []
      : [
          { part: streamDir === null ? "calibration streams" : "a sample of each calibration stream", bytes: streams },
          { part: "activations of a forward pass", bytes: trainingArenaBytes(config, 1, length, false) },
        ]),
  ].filter(({ bytes }) => bytes > 0);
}

/**
 * A pass over a sample is counted as four times its forward pass: forward again before the backward pass, which is two. The head
 * takes three times its own, and as long as its part of a block's weights.
 *
 * @param forward seconds of one block and sample
 */
function finishPart(
  { method, settings }: QuantizeOptions,
  { source: { config, blocks }, calibration }: Prepared,
  forward: number,
): RunPlan["finish"] {
  if (!method.finish || settings.endToEndEpochs === 0 || calibration === null) return null;
  const weights = blocks[0]!.reduce((sum, linear) => sum + linear.outFeatures * linear.inFeatures, 0);
  const head = (config.vocabSize * config.hiddenSize) / weights;
  const perSample = forward * (4 * blocks.length + 3 * head);
  return {
    bytes: method.finishBytes?.(config, settings, calibration.length) ?? 0,
    seconds: settings.endToEndEpochs * calibration.windows.length * perSample,
  };
}

/**
 * Seconds of one block: f + samples (c + epochs p), with f, c and p from timing block 0 with 1 sample and 1 epoch, with 2 samples,
 * and with 2 epochs. What a method does not do has no time to tell apart. `forward` is its full-precision pass over one sample.
 */
async function measure(
  options: QuantizeOptions,
  prepared: Prepared,
): Promise<{ readonly seconds: number; readonly forward: number }> {
  const { source, calibration } = prepared;
  const { settings, embeddingBits, streamDir, signal, threads } = options;
  using context = Context.open({ threads });
  using frequencies = loadInverseFrequencies(context, source.config);
  const pause = async (): Promise<void> => signal?.throwIfAborted();
  const inverseFrequencies = frequencies.at(0);
  if (calibration === null) {
    return { seconds: await timeBlock(context, options, prepared, inverseFrequencies, null, 1), forward: 0 };
  }
  const two = { ...calibration, windows: calibration.windows.slice(0, 2) };
  const start = { inverseFrequencies, streamDir, storedRows: storedRows(context, source, embeddingBits), pause };
  using streams = await CalibrationRun.start(context, source, two, start);
  using block = loadBlock(context, source, 0);
  await streams.makeTargets(block.weights, 0);
  const began = performance.now();
  const job = await streams.makeTargets(block.weights, 0);
  const forward = (performance.now() - began) / 1000 / two.windows.length;
  const time = (samples: number, epochs: number): Promise<number> =>
    timeBlock(context, options, prepared, inverseFrequencies, firstSamples(job, samples), epochs);
  await time(1, 1);
  const base = await time(1, 1);
  const perEpoch = Math.max(0, (await time(1, 2)) - base);
  const perSample = two.windows.length < 2 ? 0 : Math.max(0, (await time(2, 1)) - base - perEpoch);
  const fixed = Math.max(0, base - perEpoch - perSample);
  const samples = calibration.windows.length;
  return { seconds: fixed + samples * (2 * forward + perSample + settings.epochs * perEpoch), forward };
}

async function timeBlock(
  context: Context,
  { method, settings, signal }: QuantizeOptions,
  { source, kept, bitsFor }: Prepared,
  inverseFrequencies: BlockJob["inverseFrequencies"],
  calibration: BlockJob["calibration"],
  epochs: number,
): Promise<number> {
  const began = performance.now();
  using block = loadBlock(context, source, 0);
  const { q, k, v, o, gate, up, down } = block.weights;
  await method.quantizeBlock({
    context,
    config: source.config,
    layer: 0,
    block: block.weights,
    inverseFrequencies,
    settings: { ...settings, epochs },
    kept: new Set([q, k, v, o, gate, up, down].filter(({ name }) => kept.has(name))),
    bitsFor,
    init: null,
    calibration,
    report: async () => signal?.throwIfAborted(),
  });
  context.synchronize();
  return (performance.now() - began) / 1000;
}

function firstSamples(
  { inputs, referenceInputs, targets, scratch }: NonNullable<BlockJob["calibration"]>,
  samples: number,
): NonNullable<BlockJob["calibration"]> {
  const first = (stream: CalibrationStream): CalibrationStream => ({
    samples,
    length: stream.length,
    hidden: stream.hidden,
    read: (index) => stream.read(index),
  });
  return { inputs: first(inputs), referenceInputs: first(referenceInputs), targets: first(targets), scratch };
}
