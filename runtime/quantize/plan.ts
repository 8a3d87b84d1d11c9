/** --dry-run: what a run would take. Memory is counted; time is measured on the first block with one and two samples. */
import { Context } from "../../ffi/mod.ts";
import { trainingArenaBytes } from "../ops/training.ts";
import { CalibrationRun } from "./calibration_run.ts";
import { storedRows } from "./embedding.ts";
import type { BlockJob, CalibrationStream } from "./method.ts";
import { refuseExisting } from "./partial_folder.ts";
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
  readonly memory: readonly MemoryPart[];
  readonly memoryBytes: number;
  /** In files, while the run lasts. */
  readonly streamFileBytes: number;
  readonly secondsPerBlock: number;
  readonly seconds: number;
  readonly notes: readonly string[];
}

/** Checks everything that a run checks, and writes nothing. */
export async function planRun(options: QuantizeOptions): Promise<RunPlan> {
  refuseExisting(options.out);
  const prepared = prepare(options);
  const { source, kept, calibration } = prepared;
  const linears = source.blocks.flat();
  const count = (inside: boolean): number =>
    linears.reduce((sum, l) => (kept.has(l.module) === inside ? sum + l.outFeatures * l.inFeatures : sum), 0);
  const memory = memoryParts(options, prepared);
  const secondsPerBlock = await measure(options, prepared);
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
    streamFileBytes: options.streamDir === null ? 0 : 3 * allSamples(prepared),
    secondsPerBlock,
    seconds: secondsPerBlock * source.blocks.length,
    notes: calibration?.notes ?? [],
  };
}

function allSamples({ source, calibration }: Prepared): number {
  if (calibration === null) return 0;
  const { windows, length } = calibration;
  return streamBytes({ samples: windows.length, length, hidden: source.config.hiddenSize }, false);
}

function memoryParts(options: QuantizeOptions, { source, calibration }: Prepared): MemoryPart[] {
  const { config, blocks } = source;
  const { method, settings, streamDir } = options;
  const length = calibration?.length ?? 0;
  const largest = Math.max(...blocks.flat().map(({ outFeatures, inFeatures }) => outFeatures * inFeatures));
  const stored = blocks[0]!.reduce((sum, linear) => sum + linear.outFeatures * linear.inFeatures, 0);
  const shape = { samples: calibration?.windows.length ?? 0, length, hidden: config.hiddenSize };
  const streams = calibration === null ? 0 : 3 * streamBytes(shape, streamDir !== null);
  return [
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
 * Seconds of one block: f + samples (c + epochs p), with f, c and p from timing block 0 with 1 sample and 1 epoch, with 2 samples,
 * and with 2 epochs. What a method does not do has no time to tell apart.
 */
async function measure(options: QuantizeOptions, prepared: Prepared): Promise<number> {
  const { source, calibration } = prepared;
  const { settings, embeddingBits, streamDir, signal, threads } = options;
  using context = Context.open({ threads });
  using frequencies = loadInverseFrequencies(context, source.config);
  const pause = async (): Promise<void> => signal?.throwIfAborted();
  const inverseFrequencies = frequencies.at(0);
  if (calibration === null) return await timeBlock(context, options, prepared, inverseFrequencies, null, 1);
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
  return fixed + samples * (2 * forward + perSample + settings.epochs * perEpoch);
}

async function timeBlock(
  context: Context,
  { method, settings, signal }: QuantizeOptions,
  { source, kept }: Prepared,
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
    init: null,
    calibration,
    report: async () => signal?.throwIfAborted(),
  });
  context.synchronize();
  return (performance.now() - began) / 1000;
}

function firstSamples(
  { inputs, referenceInputs, targets }: NonNullable<BlockJob["calibration"]>,
  samples: number,
): NonNullable<BlockJob["calibration"]> {
  const first = (stream: CalibrationStream): CalibrationStream => ({
    samples,
    length: stream.length,
    hidden: stream.hidden,
    read: (index) => stream.read(index),
  });
  return { inputs: first(inputs), referenceInputs: first(referenceInputs), targets: first(targets) };
}
