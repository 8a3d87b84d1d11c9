/** The trained LoRA as a folder that peft and `apiq serve` load: PEFT's two files, and apiq.json (docs/FORMAT.md). */
import { join } from "node:path";
import { type LoraTensor, type LoraToWrite, writeAdapter } from "../formats/adapter_writer.ts";
import { writeJson } from "../formats/atomic.ts";
import { floatsToHalves } from "../formats/floats.ts";
import { type AdapterBinding, BINDING } from "../formats/mod.ts";
import type { Prepared } from "./prepare.ts";
import type { FinetuneSettings } from "./settings.ts";
import type { OutputLora, Training } from "./training.ts";

/** Writes into `dir`, which exists. */
export async function writeTrainedAdapter(
  dir: string,
  training: Training,
  { start, checkpoint }: Pick<Prepared, "start" | "checkpoint">,
  { dropout }: Pick<FinetuneSettings, "dropout">,
): Promise<void> {
  await writeLora(dir, training, start, { dropout }, "F32");
  const binding: AdapterBinding = { base: checkpoint.fingerprint, replaces: start.replaces };
  await writeJson(join(dir, BINDING), binding);
}

/**
 * PEFT's two files alone.
 *
 * @param dtype of the matrices; DoRA's magnitudes stay in float32, as float16 would move every weight of a row
 */
export async function writeLora(
  dir: string,
  training: Training,
  { lora }: Prepared["start"],
  { dropout }: Pick<FinetuneSettings, "dropout">,
  dtype: "F32" | "F16",
): Promise<void> {
  const loras = training.loras.map((output) => toWrite(output, dtype));
  const modules = training.linears.map(({ name }) => name);
  await writeAdapter(dir, { loras, modules, rsLora: lora.rsLora, dropout });
}

/** One matrix at a time is read from the device, when its turn comes. */
function toWrite({ linear, read }: OutputLora, dtype: "F32" | "F16"): LoraToWrite {
  const { outFeatures, inFeatures } = linear.weight;
  const { rank, alpha, magnitude } = read();
  const matrix = (shape: readonly number[], part: "a" | "b"): LoraTensor => ({
    dtype,
    shape,
    data: () => [bytesOf(dtype === "F16" ? floatsToHalves(read()[part]) : read()[part])],
  });
  return {
    module: linear.name,
    rank,
    alpha,
    a: matrix([rank, inFeatures], "a"),
    b: matrix([outFeatures, rank], "b"),
    magnitude: magnitude && {
      dtype: "F32",
      shape: [outFeatures],
      data: () => [bytesOf(read().magnitude as Float32Array)],
    },
  };
}

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
