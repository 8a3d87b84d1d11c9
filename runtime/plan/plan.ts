/** `apiq plan`: the memory that finetuning and serving a model take, and whether there is as much. */
import type { Context } from "../../ffi/mod.ts";
import { LORA_DEFAULTS, parseTargets } from "../finetune/settings.ts";
import { memoryNeed } from "../inspect/inspect.ts";
import type { MemoryPart } from "../quantize/plan.ts";
import { type PlannedModel, type PlannedStorage, plannedModel } from "./planned_model.ts";
import {
  loraSizes,
  type PlannedLora,
  plannedLoras,
  type TrainingSettings,
  trainingMemory,
  weightParts,
} from "./training_memory.ts";

export interface PlanOptions {
  /** A name in SHAPES, or a folder. */
  readonly shape: string;
  /** Of matrices that are not made yet; null: as they lie in the folder. */
  readonly storage: PlannedStorage | null;
  readonly training: TrainingSettings;
  /** Requests at the same time, and tokens of each; undefined: what `apiq inspect` assumes. */
  readonly serving: { readonly sequences: number; readonly contextLength: number | undefined };
  /** Bytes there are. */
  readonly memory: number;
  /** Bytes of the running program without any model. */
  readonly programBytes: number;
}

export interface Need {
  readonly parts: readonly MemoryPart[];
  readonly bytes: number;
  readonly fits: boolean;
}

/** A change of settings, and the memory that training takes with it. */
export interface Remedy {
  readonly change: string;
  readonly bytes: number;
  readonly fits: boolean;
}

export interface Plan {
  readonly model: {
    readonly name: string;
    /** Of all matrices. */
    readonly parameters: number;
    /** Of the blocks' linears, scales and zeros counted. */
    readonly bitsPerWeight: number;
  };
  readonly memory: number;
  readonly training: Need & { readonly loraParameters: number; readonly linears: number };
  readonly serving: Need & { readonly contextLength: number; readonly sequences: number };
  /** What would make training smaller, where it does not fit. */
  readonly remedies: readonly Remedy[];
}

/** @throws {FormatError} for a folder that could not be loaded */
export function makePlan(context: Context, given: PlanOptions): Plan {
  const model = plannedModel(context, given.shape, given.storage);
  const options = model.calibratedLora === null ? withRank(given) : given;
  const { trained, frozen } = plannedLoras(model, options.training);
  if (trained.length === 0) {
    throw new Error(
      `Cannot plan training of ${options.shape}: its linears have no calibrated LoRA; --rank gives them one`,
    );
  }
  const count = (loras: readonly PlannedLora[]): number =>
    loras.flatMap(loraSizes).reduce((total, size) => total + size, 0);
  const loraParameters = count(trained);
  const training = need(trainingMemory(model, options.training, options.programBytes), options.memory);
  const values = model.linears.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  const bytes = model.linears.reduce((sum, { weightBytes, scaleBytes }) => sum + weightBytes + scaleBytes, 0);
  const tables = model.tables.reduce((sum, { outFeatures, inFeatures }) => sum + outFeatures * inFeatures, 0);
  return {
    model: { name: model.name, parameters: values + tables, bitsPerWeight: (8 * bytes) / values },
    memory: options.memory,
    training: { ...training, loraParameters, linears: trained.length },
    serving: serving(model, loraParameters + count(frozen), options),
    remedies: training.fits ? [] : remedies(context, model, options, training.bytes),
  };
}

/** Where there is no calibrated LoRA to train, as much as a start at zero has by default. */
function withRank(options: PlanOptions): PlanOptions {
  return { ...options, training: { ...options.training, rank: options.training.rank ?? LORA_DEFAULTS.rank } };
}

function need(parts: readonly MemoryPart[], memory: number): Need {
  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
  return { parts, bytes, fits: bytes <= memory };
}

/** With what was trained, and what of the model's own LoRA takes part in it. */
function serving(model: PlannedModel, loraParameters: number, options: PlanOptions): Plan["serving"] {
  const weights = weightParts(model);
  const total = weights.reduce((sum, { bytes }) => sum + bytes, 0);
  const { contextLength, sequences } = options.serving;
  const all = memoryNeed(model.config, total, loraParameters, {
    sequences,
    ...(contextLength !== undefined && { contextLength }),
  });
  const parts = [
    ...weights,
    { part: "LoRA in 16 bits", bytes: all.lora },
    { part: "KV cache", bytes: all.kvCache },
    { part: "programs and buffers, at most", bytes: all.runtime },
  ];
  return { ...need(parts, options.memory), contextLength: all.contextLength, sequences };
}

/** The largest savings first; each on its own. */
function remedies(context: Context, model: PlannedModel, options: PlanOptions, now: number): Remedy[] {
  const { training, shape } = options;
  const changes: (readonly [change: string, changed: Partial<PlanOptions>])[] = [];
  const change = (text: string, changed: Partial<TrainingSettings>): void => {
    changes.push([text, { training: { ...training, ...changed } }]);
  };
  const { sequences, length } = training;
  if (training.momentBits === 32) change("--optimizer-bits 8", { momentBits: 8 });
  if (!training.recompute) change("--recompute", { recompute: true });
  if (sequences > 1) change(`--batch ${sequences >> 1}`, { sequences: sequences >> 1 });
  else if (length > 64) change(`--seq ${length >> 1}`, { length: length >> 1 });
  const rank = training.rank ?? model.calibratedLora?.rank ?? 0;
  if (rank > 1) change(`--rank ${rank >> 1}`, { rank: rank >> 1 });
  if (training.targets === null) change("--targets attention", { targets: parseTargets("attention") });
  const { storage } = model;
  if (storage !== null && storage.embeddingBits > 4) {
    changes.push(["--embed-bits 4", { storage: { ...storage, embeddingBits: 4 } }]);
  }
  return changes
    .map(([text, changed]) => {
      const all = { ...options, ...changed };
      const parts = trainingMemory(plannedModel(context, shape, all.storage), all.training, options.programBytes);
      const { bytes, fits } = need(parts, options.memory);
      return { change: text, bytes, fits };
    })
    .filter(({ bytes }) => bytes < now)
    .sort((a, b) => a.bytes - b.bytes);
}
