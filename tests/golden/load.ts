/** Opens golden folders and runs their inputs through a loaded model. */
import { type LoadedModel, loadModel } from "../../runtime/engine/loaded_model.ts";
import type { EngineOptions } from "../../runtime/engine/protocol.ts";
import { openSafetensors, readBytes, readTensor } from "../../runtime/formats/mod.ts";

export function goldenModel(model: string, options: Partial<EngineOptions> = {}): LoadedModel {
  return loadModel({
    model,
    device: "cpu",
    threads: 2,
    contextLength: 512,
    maxSequences: 4,
    kvMemory: undefined,
    activations: "f32",
    adapters: {},
    ...options,
  });
}

export function readFloats(path: string, name: string): { values: Float32Array; shape: readonly number[] } {
  const tensor = tensorOf(path, name);
  return { values: readTensor(tensor), shape: tensor.shape };
}

/** An I64 tensor whose values are small. */
export function readIds(path: string, name: string): { values: number[]; shape: readonly number[] } {
  const tensor = tensorOf(path, name);
  const values = [...new BigInt64Array(readBytes(tensor).buffer)].map(Number);
  return { values, shape: tensor.shape };
}

function tensorOf(path: string, name: string) {
  const tensor = openSafetensors(path).tensors.get(name);
  if (!tensor) throw new Error(`${path} has no tensor ${name}`);
  return tensor;
}

/** Logits float32 [tokens, vocab] of one text. */
export function logitsOf(loaded: LoadedModel, tokens: readonly number[], adapterSlot = -1): Float32Array {
  const vocab = loaded.config.vocabSize;
  const all = new Float32Array(tokens.length * vocab);
  loaded.runner.scoreText(tokens, adapterSlot, (logits, first, rows) => {
    logits.buffer.download(all.subarray(first * vocab, (first + rows) * vocab), logits.offset);
  });
  return all;
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}
