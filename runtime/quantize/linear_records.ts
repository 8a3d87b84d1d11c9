/** How the linears of a block came out, for its record. */
import { type BlockWeights, blockLinears } from "../models/weights.ts";
import { type LinearRecord, linearRecord } from "./block_file.ts";
import type { Pause } from "./calibration_run.ts";
import type { QuantizedLinear } from "./method.ts";
import { readWeights, type SourceLinear } from "./source.ts";

/**
 * @param block holds what was stored for its linears
 * @param linears of the source, in forward order
 */
export async function linearRecords(
  block: BlockWeights,
  linears: readonly SourceLinear[],
  result: ReadonlyMap<string, QuantizedLinear>,
  pause: Pause,
): Promise<Record<string, LinearRecord>> {
  const records: Record<string, LinearRecord> = {};
  for (const [i, linear] of blockLinears(block).entries()) {
    const { data, outFeatures, inFeatures } = linear.weight;
    const stored = data!.buffer.download(new Float32Array(outFeatures * inFeatures), data!.offset);
    records[linear.name] = linearRecord(result.get(linear.name)!, relativeError(readWeights(linears[i]!), stored));
    await pause();
  }
  return records;
}

/** |b - a| / |a| in the Frobenius norm. */
function relativeError(a: Float32Array, b: Float32Array): number {
  let wrong = 0;
  let whole = 0;
  for (let i = 0; i < a.length; i++) {
    wrong += (b[i]! - a[i]!) ** 2;
    whole += a[i]! ** 2;
  }
  return whole === 0 ? 0 : Math.sqrt(wrong / whole);
}
