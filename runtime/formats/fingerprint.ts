/**
 * The identity of a base model, which an adapter can be bound to. One that was stored when the model was made covers every
 * byte; for other folders it is computed from config, headers and a sample of each tensor, which takes milliseconds.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { FormatError } from "./failure.ts";
import { canonicalJson, type JsonObject } from "./json.ts";
import { readBytes } from "./read.ts";
import type { StoredTensor } from "./safetensors.ts";

/** Key of config.json that holds the stored fingerprint. */
export const FINGERPRINT_KEY = "apiq_fingerprint";
export const FINGERPRINT = /^[0-9a-f]{64}$/;
/** Two finetunes of one model share all their headers, so a few bytes out of each tensor's middle count too. */
const SAMPLE_BYTES = 256;

/** Name and SHA-256 (hex) of dtype, shape and data of one tensor. */
export interface TensorHash {
  name: string;
  sha256: string;
}

/** The fingerprint to store under `FINGERPRINT_KEY` when a model is made: SHA-256 over canonical config and tensor hashes. */
export function makeFingerprint(config: JsonObject, tensors: readonly TensorHash[]): string {
  const hashes = Object.fromEntries(tensors.map(({ name, sha256 }) => [name, sha256]));
  return sha256(canonicalJson({ config: withoutFingerprint(config), tensors: hashes }));
}

/** The stored fingerprint, or else the computed one. */
export function fingerprintOf(
  config: JsonObject,
  tensors: ReadonlyMap<string, StoredTensor>,
  configFile: string,
): string {
  const stored = config[FINGERPRINT_KEY];
  if (stored === undefined) return computeFingerprint(config, tensors);
  if (typeof stored === "string" && FINGERPRINT.test(stored)) return stored;
  const reason = `${FINGERPRINT_KEY} is no SHA-256`;
  throw new FormatError("read", {
    file: configFile,
    reason,
    received: stored,
    expected: "64 hexadecimal digits",
  });
}

function computeFingerprint(config: JsonObject, tensors: ReadonlyMap<string, StoredTensor>): string {
  const headers = [...tensors.values()].map((tensor) => {
    const { name, dtype, shape, bytes } = tensor;
    const count = Math.min(bytes, SAMPLE_BYTES);
    const sample = readBytes(tensor, Math.floor((bytes - count) / 2), count);
    return [name, { dtype, shape, sample: Buffer.from(sample).toString("hex") }];
  });
  return sha256(canonicalJson({ config: withoutFingerprint(config), headers: Object.fromEntries(headers) }));
}

function withoutFingerprint(config: JsonObject): JsonObject {
  const { [FINGERPRINT_KEY]: _, ...rest } = config;
  return rest;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
