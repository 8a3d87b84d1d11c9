/** Runs of the quantization pipeline on tiny models, for the tests beside this file. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LoadedModel, loadModel } from "../../runtime/engine/loaded_model.ts";
import type { MethodSettings } from "../../runtime/quantize/method.ts";
import {
  type QuantizeEvents,
  type QuantizeOptions,
  type QuantizeResult,
  quantize,
} from "../../runtime/quantize/pipeline.ts";
import { methodNamed } from "../../runtime/quantize/registry.ts";
import { methodSettings } from "../../runtime/quantize/settings.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { calibrationText } from "../fixtures/dense_model.ts";

/** A folder that goes with the test. */
export function temporaryFolder(): { readonly dir: string } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), "apiq-quantize-"));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

export const SAMPLES = 3;
export const LENGTH = 48;

/** Settings that take a tiny model seconds; what is calibrated block by block is what is served. */
export const SMALL: Partial<MethodSettings> = {
  bits: 2,
  group: 64,
  rank: 8,
  alpha: 8,
  epochs: 2,
  iterations: 1,
  endToEndEpochs: 0,
};

/** Options of a run of `method` over SAMPLES windows of LENGTH tokens, written into `folder`. */
export function smallRun(
  source: string,
  folder: string,
  method: string,
  given: Partial<MethodSettings> = {},
  more: Partial<QuantizeOptions> = {},
): QuantizeOptions {
  const data = join(folder, "calibration.txt");
  writeFileSync(data, calibrationText(SAMPLES * LENGTH + 200));
  return {
    source,
    out: join(folder, "out"),
    method: methodNamed(method),
    settings: methodSettings("default", { ...SMALL, ...given }, methodNamed(method)),
    calibration: { data, samples: SAMPLES, length: LENGTH, windows: "first" },
    keep: [],
    bitsFor: [],
    embeddingBits: 16,
    initFrom: null,
    streamDir: null,
    threads: 2,
    ...more,
  };
}

/** The ids of the first window that `smallRun` calibrates on. */
export function firstWindow(source: string): number[] {
  return openTokenizer(source)
    .encode(calibrationText(SAMPLES * LENGTH + 200))
    .slice(0, LENGTH);
}

/** Runs, and takes the quantized stream of the first sample behind the last block, float32 [LENGTH, hidden]. */
export async function runWithStream(
  options: QuantizeOptions,
  events: QuantizeEvents = {},
): Promise<{ result: QuantizeResult; hidden: Float32Array }> {
  let hidden = new Float32Array(0);
  const result = await quantize(options, {
    ...events,
    onStream: (_, stream) => {
      const { buffer, offset } = stream.read(0);
      hidden = buffer.download(new Float32Array(stream.length * stream.hidden), offset);
    },
  });
  return { result, hidden };
}

export function open(model: string): LoadedModel {
  return loadModel({
    model,
    device: "cpu",
    threads: 2,
    contextLength: 256,
    maxSequences: 2,
    kvMemory: undefined,
    activations: "f32",
    adapters: {},
  });
}
