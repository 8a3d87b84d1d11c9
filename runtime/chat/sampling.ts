/** How an answer is drawn when its request does not say. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { SamplingParams } from "../engine/protocol.ts";

export type SamplingDefaults = Pick<SamplingParams, "temperature" | "topP" | "topK" | "minP" | "repetitionPenalty">;

/** OpenAI's defaults: the model's own distribution. */
const PLAIN: SamplingDefaults = { temperature: 1, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1 };

/**
 * The model's wishes in generation_config.json, if it has the file; OpenAI's defaults otherwise. `do_sample: false` means
 * greedy there, whatever the other fields say, and so it does here.
 */
export function readSamplingDefaults(modelDir: string): SamplingDefaults {
  const path = join(modelDir, "generation_config.json");
  if (!existsSync(path)) return PLAIN;
  const config = readJsonObject(path);
  const number = (name: string, fallback: number) => {
    const value = config[name];
    return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : fallback;
  };
  return {
    temperature: config.do_sample === false ? 0 : number("temperature", PLAIN.temperature),
    topP: number("top_p", PLAIN.topP) || PLAIN.topP,
    topK: number("top_k", PLAIN.topK),
    minP: number("min_p", PLAIN.minP),
    repetitionPenalty: number("repetition_penalty", PLAIN.repetitionPenalty) || PLAIN.repetitionPenalty,
  };
}

/** 64 random bits, for a request without a seed. */
export function randomSeed(): bigint {
  return crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
}

function readJsonObject(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`Cannot read ${path}: ${error instanceof Error ? error.message : error}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`Cannot read ${path}: received ${JSON.stringify(value)?.slice(0, 40)}, expected a JSON object`);
  }
  return value as Record<string, unknown>;
}
