/** How large an engine is made and in which numbers it computes: options, and what they leave open. */
import { freemem } from "node:os";
import type { DecoderConfig } from "../models/config.ts";
import { KV_BLOCK_SIZE } from "../ops/inference.ts";
import { kvBlockBytes, type RunnerOptions } from "./model_runner.ts";
import type { EngineOptions } from "./protocol.ts";

/** Rows of prompts in one step at most; fewer when the machine is too slow for a step of a quarter of a second. */
export const MAX_PREFILL_ROWS = 256;
/** Without --context, a model made for more than this gets this much. */
const DEFAULT_CONTEXT = 8192;
/** Models below this many parameters compute in float32 unless told otherwise. */
const SMALL_MODEL = 500e6;

export interface EngineShape extends RunnerOptions {
  loraDtype: "f16" | "f32";
}

/** Parameters of a decoder's matrices; norms and biases do not count. */
export function parameterCount(c: DecoderConfig): number {
  const attention = c.hiddenSize * c.headDim * 2 * (c.heads + c.kvHeads);
  const mlp = 3 * c.hiddenSize * c.intermediateSize;
  return c.layers * (attention + mlp) + c.vocabSize * c.hiddenSize * (c.tiedEmbeddings ? 1 : 2);
}

export function chooseShape(config: DecoderConfig, options: EngineOptions): EngineShape {
  const contextLength = options.contextLength ?? Math.min(config.maxPositions, DEFAULT_CONTEXT);
  if (contextLength > config.maxPositions) {
    throw new Error(
      `Cannot serve a context of ${contextLength} tokens: the model was made for ${config.maxPositions} (max_position_embeddings)`,
    );
  }
  const small = parameterCount(config) < SMALL_MODEL;
  const activations = options.activations === "auto" ? (small ? "f32" : "int8") : options.activations;
  const storage = options.activations === "f32" ? "f32" : "f16";
  const blockBytes = kvBlockBytes(config, storage);
  const needed = options.maxSequences * Math.ceil(contextLength / KV_BLOCK_SIZE);
  const kvMemory = options.kvMemory ?? Math.min(needed * blockBytes, freemem() / 4);
  const kvBlocks = Math.min(needed, Math.floor(kvMemory / blockBytes));
  if (kvBlocks < 1) {
    throw new Error(
      `Cannot serve: the KV cache received ${kvMemory} bytes, expected at least ${blockBytes} for ${KV_BLOCK_SIZE} tokens`,
    );
  }
  return {
    maxRows: MAX_PREFILL_ROWS + options.maxSequences,
    maxSequences: options.maxSequences,
    contextLength,
    kvBlocks,
    kvDtype: storage,
    loraDtype: storage,
    activations,
  };
}
