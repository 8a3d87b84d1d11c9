/** Main module of the thread that reads adapters; see adapter_reader.ts. */
import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";
import { ModeNeededError, openFitting } from "../adapters/open.ts";
import { type AdapterSource, openAdapter } from "../formats/mod.ts";
import { imageBytes, type LoraImage, readImage } from "../models/lora_image.ts";
import type { FromReader, ReaderData, ToReader } from "./adapter_reader.ts";

const port = parentPort!;
const { fingerprint, shapes, maxRank, calibratedDir, dtype, mostBytes } = workerData as ReaderData;
const host = { fingerprint, shapes, maxRank, calibrated: calibratedDir === null ? null : openAdapter(calibratedDir) };

port.on("message", ({ dir, mode }: ToReader) => {
  try {
    const { source, replaces } = openFitting(dir, host, mode);
    checkSize(source);
    const image = readImage(source, dtype, replaces ? null : host.calibrated);
    const found = {
      sha256: digest(image, replaces),
      bytes: image.data.length,
      rank: Math.max(...image.targets.map(({ rank }) => rank)),
      targets: image.targets.length,
      replaces,
    };
    port.postMessage({ image, found } satisfies FromReader, transferable(image));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    port.postMessage({ error: message, needsMode: error instanceof ModeNeededError } satisfies FromReader);
  }
});

/** Before anything of that size is read. */
function checkSize(source: AdapterSource): void {
  const bytes = imageBytes(source, dtype);
  if (bytes <= mostBytes) return;
  throw new Error(
    `Cannot load adapter ${source.dir}: it takes ${bytes} bytes, expected at most ${mostBytes} (--adapter-memory)`,
  );
}

/** Of everything that the adapter's arithmetic depends on. */
function digest({ data, targets, dora }: LoraImage, replaces: boolean): string {
  const hash = createHash("sha256").update(JSON.stringify({ targets, replaces })).update(data);
  for (const { loras } of dora) {
    const { a, b, magnitude } = loras.at(-1)!;
    for (const values of [a, b, magnitude!]) hash.update(new Uint8Array(values.buffer));
  }
  return hash.digest("hex");
}

/** Moved to the other thread instead of copied. */
function transferable({ data, dora }: LoraImage): ArrayBuffer[] {
  const matrices = dora.flatMap(({ loras }) => loras).flatMap(({ a, b, magnitude }) => [a, b, magnitude ?? a]);
  return [...new Set([data.buffer, ...matrices.map(({ buffer }) => buffer)])];
}
