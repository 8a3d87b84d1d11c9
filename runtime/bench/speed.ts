/** Decode and prefill speed of a model on this machine, beside the machine's own read bandwidth measured in the same run. */
import { setImmediate } from "node:timers/promises";
import type { Context, DeviceBuffer } from "../../ffi/mod.ts";
import { WEIGHT_DENSE, type Weight } from "../../ffi/mod.ts";
import { type EngineShape, MAX_PREFILL_ROWS } from "../engine/engine_shape.ts";
import type { ModelRunner } from "../engine/model_runner.ts";
import { GREEDY } from "../engine/protocol.ts";
import type { ScheduledRows } from "../engine/scheduler.ts";
import { Sequence } from "../engine/sequence.ts";
import type { DecoderConfig } from "../models/config.ts";
import { blockLinears, type DecoderWeights } from "../models/weights.ts";
import { KV_BLOCK_SIZE } from "../ops/inference.ts";

export interface SpeedOptions {
  /** Prompt length in tokens; decoding starts after it. */
  prompt: number;
  /** Decode steps that are timed. */
  tokens: number;
}

export interface SpeedReport {
  /** Best of several passes over a buffer far larger than the caches, all threads, huge pages. */
  bandwidthBytesPerSecond: number;
  /** Every byte a decode step has to read: packed weights, head, LoRA, the sequences' keys and values at half-way. */
  bytesPerStep: number;
  decode: {
    medianMs: number;
    /** Over all timed steps, slow ones included: what a stream of tokens comes to. */
    meanMs: number;
    bestMs: number;
    /** By the median step, all sequences together. */
    tokensPerSecond: number;
    fractionOfBandwidth: number;
  };
  prefill: { tokens: number; seconds: number; tokensPerSecond: number };
}

const BANDWIDTH_BYTES = 512 * 2 ** 20;
const BANDWIDTH_PASSES = 3;

/** A buffer whose pages all exist: pages never written would all be one and stay in the cache. */
function touchedBuffer(context: Context): DeviceBuffer {
  const buffer = context.alloc(BANDWIDTH_BYTES);
  const chunk = new Uint8Array(16 * 2 ** 20).fill(1);
  for (let at = 0; at < BANDWIDTH_BYTES; at += chunk.length) buffer.upload(chunk, at);
  return buffer;
}

function bestBandwidth(context: Context, buffer: DeviceBuffer): number {
  return Math.max(...Array.from({ length: BANDWIDTH_PASSES }, () => context.measureBandwidth(buffer)));
}

function weightBytes(context: Context, weight: Weight): number {
  if (weight.kind === WEIGHT_DENSE) return weight.outFeatures * weight.inFeatures * (weight.dtype === 0 ? 4 : 2);
  return context.packedBytes(weight);
}

/** Bytes a decode step reads besides keys and values. */
export function stepWeightBytes(context: Context, weights: DecoderWeights): number {
  const linears = [...weights.blocks.flatMap(blockLinears), weights.head];
  return linears.reduce((sum, { weight }) => sum + weightBytes(context, weight), 0);
}

function kvBytes(config: DecoderConfig, positions: number, elementBytes: number): number {
  return 2 * config.layers * config.kvHeads * config.headDim * positions * elementBytes;
}

/** The token ids of the benchmark's prompts: spread over the vocabulary, different for each sequence. */
function promptTokens(count: number, seat: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, i) => 3 + ((i * 7919 + seat * 104729) % (vocabSize - 3)));
}

function makeSequences(config: DecoderConfig, options: SpeedOptions, count: number): Sequence[] {
  const length = options.prompt + options.tokens + 1;
  const blocksEach = Math.ceil(length / KV_BLOCK_SIZE);
  return Array.from({ length: count }, (_, seat) => {
    const sequence = new Sequence(
      {
        id: `bench-${seat}`,
        prompt: promptTokens(options.prompt, seat, config.vocabSize),
        maxTokens: options.tokens + 1,
        stopTokens: [],
        sampling: GREEDY,
      },
      -1,
    );
    sequence.seat = seat;
    for (let i = 0; i < blocksEach; i++) sequence.blocks.push(seat * blocksEach + i);
    return sequence;
  });
}

/**
 * Runs prompts through the model, then decodes as many sequences together as the shape allows, timing both.
 * @param loraBytes bytes of LoRA matrices that every step reads
 */
export async function measureSpeed(
  context: Context,
  runner: ModelRunner,
  weights: DecoderWeights,
  shape: EngineShape,
  options: SpeedOptions,
  loraBytes: number,
  signal: AbortSignal,
): Promise<SpeedReport> {
  const sequences = makeSequences(weights.config, options, shape.maxSequences);
  let bandwidth: number;
  {
    using buffer = touchedBuffer(context);
    bandwidth = bestBandwidth(context, buffer);
  }
  const prefillSeconds = await prefill(runner, sequences, signal);
  const steps = await decode(runner, sequences, options.tokens, signal);
  {
    using buffer = touchedBuffer(context);
    bandwidth = Math.max(bandwidth, bestBandwidth(context, buffer));
  }
  const positions = options.prompt + options.tokens / 2;
  const bytesPerStep =
    stepWeightBytes(context, weights) +
    loraBytes +
    sequences.length * kvBytes(weights.config, positions, shape.kvDtype === "f16" ? 2 : 4);
  const medianMs = steps[Math.floor(steps.length / 2)];
  const prefillTokens = options.prompt * sequences.length;
  return {
    bandwidthBytesPerSecond: bandwidth,
    bytesPerStep,
    decode: {
      medianMs,
      meanMs: steps.reduce((sum, ms) => sum + ms, 0) / steps.length,
      bestMs: steps[0],
      tokensPerSecond: (1000 * sequences.length) / medianMs,
      fractionOfBandwidth: bytesPerStep / (medianMs / 1000) / bandwidth,
    },
    prefill: { tokens: prefillTokens, seconds: prefillSeconds, tokensPerSecond: prefillTokens / prefillSeconds },
  };
}

/** One pass over the rows, drawn tokens appended. */
async function step(runner: ModelRunner, rows: readonly ScheduledRows[], signal: AbortSignal): Promise<void> {
  const drawn = runner.run(rows);
  for (const { sequence, count } of rows) sequence.computed += count;
  for (const { sequence, token } of drawn) sequence.append(token);
  // Lets Ctrl-C in.
  await setImmediate();
  signal.throwIfAborted();
}

/** Computes all prompts and draws each sequence's first token. Returns seconds. */
async function prefill(runner: ModelRunner, sequences: readonly Sequence[], signal: AbortSignal): Promise<number> {
  const started = performance.now();
  for (const sequence of sequences) {
    while (sequence.generated === 0) {
      await step(runner, [{ sequence, count: Math.min(MAX_PREFILL_ROWS, sequence.pending) }], signal);
    }
  }
  return (performance.now() - started) / 1000;
}

/** Milliseconds of each step, sorted. The first two steps record and warm the graph and are not counted. */
async function decode(
  runner: ModelRunner,
  sequences: readonly Sequence[],
  steps: number,
  signal: AbortSignal,
): Promise<number[]> {
  const rows = sequences.map((sequence) => ({ sequence, count: 1 }));
  const milliseconds: number[] = [];
  for (let i = 0; i < steps; i++) {
    const started = performance.now();
    await step(runner, rows, signal);
    if (i >= 2) milliseconds.push(performance.now() - started);
  }
  return milliseconds.sort((a, b) => a - b);
}
