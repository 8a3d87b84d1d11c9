/** Room on disk: a run that cannot end is better refused than stopped after hours. */
import { existsSync, statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { formatBytes } from "../cli/format.ts";
import { dtypeBytes } from "../formats/dtype.ts";
import type { QuantizationMethod } from "./method.ts";
import type { Prepared, QuantizeOptions } from "./pipeline.ts";
import type { SourceLinear } from "./source.ts";

/** A group's scale, and the most its zero takes. */
const GROUP_BYTES = 2 + 2;
/** Log, report, tokenizer and headers. */
const SMALL_FILES = 16e6;

/**
 * About how many bytes a run writes that lie on the disk at the same time: all blocks, and the model that is made of them. What a
 * user's quantizer only dequantises takes more, which is not known before.
 *
 * @param finished blocks that are there already
 */
export function bytesToWrite(options: QuantizeOptions, { source, kept }: Prepared, finished: number): number {
  const { method, settings, embeddingBits } = options;
  const bytes = (linear: SourceLinear): number =>
    kept.has(linear.module) ? 2 * linear.outFeatures * linear.inFeatures : packedBytes(linear, method, options);
  const blocks = source.blocks.map((linears) => linears.reduce((sum, linear) => sum + bytes(linear), 0));
  const total = (sizes: readonly number[]): number => sizes.reduce((sum, size) => sum + size, 0);
  const tables = [source.embedding, source.head].map((table) =>
    table === null ? 0 : (table.bytes / dtypeBytes(table.dtype)) * (embeddingBits / 8),
  );
  // What a method makes of the whole model lies beside the blocks that it made before.
  const revised = method.finish && settings.endToEndEpochs > 0 ? total(blocks) : 0;
  return total(blocks.slice(finished)) + revised + total(blocks) + total(tables) + SMALL_FILES;
}

function packedBytes(
  { outFeatures, inFeatures }: SourceLinear,
  { uses }: QuantizationMethod,
  { settings: { bits, group, rank } }: QuantizeOptions,
): number {
  const lora = uses.includes("rank") ? 2 * rank * (outFeatures + inFeatures) : 0;
  return outFeatures * inFeatures * (bits / 8 + GROUP_BYTES / group) + 4 * inFeatures + lora;
}

/** Bytes that may still be written where `path` is or will be; undefined where the system does not tell. */
export function freeBytes(path: string): number | undefined {
  let dir = resolve(path);
  while (!existsSync(dir)) dir = dirname(dir);
  try {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  } catch {
    return undefined;
  }
}

/** @throws where `path` has less room than `needed` bytes */
export function checkSpace(path: string, needed: number, what: string): void {
  const free = freeBytes(path);
  if (free === undefined || free >= needed) return;
  throw new Error(`Cannot write ${path}: ${what} take about ${formatBytes(needed)}, and ${formatBytes(free)} are free`);
}
