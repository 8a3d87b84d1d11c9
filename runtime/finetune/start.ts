/** Where LoRA begins: the model's calibrated one, an adapter's, or zero. */
import { existsSync } from "node:fs";
import type { Context } from "../../ffi/mod.ts";
import {
  type AdapterSource,
  type Checkpoint,
  checkBinding,
  type LoraTarget,
  openAdapter,
  readLora,
  readTensor,
} from "../formats/mod.ts";
import { EffectiveRows } from "../models/effective_rows.ts";
import type { DecoderWeights, Linear } from "../models/weights.ts";
import { blockLinears } from "../models/weights.ts";
import { uniform } from "../quantize/random.ts";
import { type LoraSettings, loraSettings, OPTION_FLAGS, type Target } from "./settings.ts";
import type { LoraValues } from "./trained_adapter.ts";

/** "init": the model's calibrated LoRA; "zero": B = 0; else an adapter's folder. */
export type StartName = string;

export interface Start {
  readonly name: StartName;
  /** Whose matrices training begins with; null: zero. */
  readonly from: AdapterSource | null;
  /** The model's calibrated LoRA where what is trained comes on top of it; it takes part and stays as it is. */
  readonly below: AdapterSource | null;
  /** Whether the result takes the calibrated LoRA's place. */
  readonly replaces: boolean;
  /** Of a start at zero, or what the adapter's config says. */
  readonly lora: LoraSettings;
}

/** LoRA of a model where training begins. */
export interface StartValues {
  readonly trained: ReadonlyMap<Linear, LoraValues>;
  /** Parts of the adapter outside the targets: they take part, stay as they are and are written along. */
  readonly kept: ReadonlyMap<Linear, LoraValues>;
}

/**
 * @param name null: "init" where the model has a calibrated LoRA, else "zero"
 * @param given what was said about LoRA's shape, which only a start at zero can heed
 * @param modelTrains whether something trains besides LoRA
 * @throws for a start that is not there, belongs to another model, or has another shape than `given`
 */
export function openStart(
  checkpoint: Checkpoint,
  name: StartName | null,
  given: Partial<LoraSettings>,
  modelTrains = false,
): Start {
  const { initAdapter, fingerprint, dir } = checkpoint;
  const chosen = name ?? (initAdapter ? "init" : "zero");
  if (chosen === "zero") {
    const lora = loraSettings(given, modelTrains);
    return { name: chosen, from: null, below: belowOf(checkpoint, chosen), replaces: false, lora };
  }
  if (chosen === "init" && !initAdapter) {
    throw new Error(`Cannot start from init: ${dir} has no calibrated LoRA; give --start zero or an adapter's folder`);
  }
  if (chosen !== "init" && !existsSync(chosen)) {
    throw new Error(`Cannot start from ${chosen}: it does not exist, expected init, zero or an adapter's folder`);
  }
  const from = chosen === "init" ? (initAdapter as AdapterSource) : openAdapter(chosen);
  checkBinding(from, fingerprint);
  const replaces = chosen === "init" || from.binding?.replaces === true;
  const dora = [...from.targets.values()].some(({ magnitude }) => magnitude !== null);
  const lora = { rank: from.rank, alpha: from.alpha, rsLora: from.rsLora, dora };
  for (const key of ["rank", "alpha", "dora", "rsLora"] as const) {
    if (given[key] === undefined || given[key] === lora[key]) continue;
    const flag = OPTION_FLAGS[key];
    const what = chosen === "init" ? "the model's calibrated LoRA" : chosen;
    throw new RangeError(
      `Cannot use ${flag}: received ${given[key]}, expected ${lora[key]} as ${what} has; another needs --start zero`,
    );
  }
  return { name: chosen, from, below: replaces ? null : belowOf(checkpoint, chosen), replaces, lora };
}

/** The calibrated LoRA, as what is trained would come on top of it. */
function belowOf({ initAdapter, dir }: Checkpoint, start: StartName): AdapterSource | null {
  if (!initAdapter) return null;
  const dora = [...initAdapter.targets.values()].some(({ magnitude }) => magnitude !== null);
  if (!dora) return initAdapter;
  throw new Error(
    `Cannot start from ${start}: LoRA cannot train on top of the calibrated DoRA of ${dir}; give --start init`,
  );
}

/**
 * Reads or makes the first matrices.
 *
 * @throws where the adapter does not fit the model, or has nothing for the targets
 */
export function startValues(
  context: Context,
  weights: DecoderWeights,
  start: Start,
  targets: readonly Target[],
  seed: number,
): StartValues {
  const linears = weights.blocks.flatMap(blockLinears);
  const isTarget = ({ name }: Linear): boolean => targets.some((target) => name.endsWith(`.${target}`));
  const { from } = start;
  if (from === null) {
    const chosen = start.lora.rank === 0 ? [] : linears.filter(isTarget);
    return { trained: new Map(chosen.map((l) => [l, zeroLora(context, l, start, seed)])), kept: new Map() };
  }
  const byName = new Map(linears.map((linear) => [linear.name, linear]));
  const trained = new Map<Linear, LoraValues>();
  const kept = new Map<Linear, LoraValues>();
  for (const [module, target] of from.targets) {
    const linear = fitting(from, byName.get(module), module, target);
    (isTarget(linear) ? trained : kept).set(linear, valuesOf(target));
  }
  if (trained.size > 0) return { trained, kept };
  const has = [...new Set([...from.targets.keys()].map((module) => module.slice(module.lastIndexOf(".") + 1)))];
  throw new RangeError(
    `Cannot use --targets: received ${targets.join(", ")}, expected some of ${has.join(", ")}, which ${from.dir} has`,
  );
}

function fitting({ dir }: AdapterSource, linear: Linear | undefined, module: string, { a, b }: LoraTarget): Linear {
  if (!linear) throw new Error(`Cannot start from ${dir}: it targets ${module}, which this model does not have`);
  const { inFeatures, outFeatures } = linear.weight;
  if (a.shape[1] === inFeatures && b.shape[0] === outFeatures) return linear;
  const expected = `A [rank,${inFeatures}] and B [${outFeatures},rank]`;
  const received = `A [${a.shape}] and B [${b.shape}]`;
  throw new Error(`Cannot start from ${dir}: ${module} received ${received}, expected ${expected}`);
}

/** Read when they are asked for: all linears' together are as large as what trains. */
function valuesOf({ a, b, magnitude, rank, alpha }: LoraTarget): LoraValues {
  return {
    get a() {
      return readTensor(a);
    },
    get b() {
      return readTensor(b);
    },
    magnitude: magnitude && readTensor(magnitude),
    rank,
    alpha,
  };
}

/** A uniform in +-1/sqrt(in), which is peft's kaiming_uniform with a = sqrt 5; B zero; DoRA's magnitude the norms of the rows. */
function zeroLora(context: Context, linear: Linear, { lora, below }: Start, seed: number): LoraValues {
  const { outFeatures, inFeatures } = linear.weight;
  const { rank, alpha, dora } = lora;
  const under = below?.targets.get(linear.name);
  return {
    get a() {
      return uniform(rank * inFeatures, 1 / Math.sqrt(inFeatures), seed, linear.loraTarget);
    },
    get b() {
      return new Float32Array(outFeatures * rank);
    },
    magnitude: dora ? rowNorms(context, linear, under ? [under] : []) : null,
    rank,
    alpha,
  };
}

/** Lengths of the rows that LoRA is added to, [out]. */
function rowNorms(context: Context, { weight }: Linear, below: readonly LoraTarget[]): Float32Array {
  const { outFeatures, inFeatures } = weight;
  using rows = new EffectiveRows(context, weight, below.map(readLora));
  const norms = new Float32Array(outFeatures);
  for (let first = 0; first < outFeatures; first += rows.slabRows) {
    const values = rows.read(first, Math.min(rows.slabRows, outFeatures - first));
    for (let row = 0; row * inFeatures < values.length; row++) {
      norms[first + row] = lengthOf(values.subarray(row * inFeatures, (row + 1) * inFeatures));
    }
  }
  return norms;
}

function lengthOf(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}
