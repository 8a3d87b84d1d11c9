/** What finetuning takes, part by part, from the functions that size the buffers when it runs. */
import type { Target } from "../finetune/settings.ts";
import { sharedWeightBytes } from "../ops/training_weights.ts";
import type { MemoryPart } from "../quantize/plan.ts";
import { loraParameterSizes } from "../quantize/training/lora.ts";
import { TrainedGrid } from "../quantize/training/trained_grid.ts";
import { trainerMemory } from "../training/model_trainer.ts";
import { type MomentBits, parameterBytes } from "../training/parameters.ts";
import type { PlannedMatrix, PlannedModel } from "./planned_model.ts";

export interface TrainingSettings {
  /** Of the LoRA that trains; null: the calibrated one trains, as it is. */
  readonly rank: number | null;
  readonly dora: boolean;
  /** Whether the calibrated LoRA stays below another that trains, and takes part. */
  readonly below: boolean;
  /** Linears that train; null: all. */
  readonly targets: readonly Target[] | null;
  /** Sequences that go through together, and tokens of each. */
  readonly sequences: number;
  readonly length: number;
  /** Whether the backward pass runs each block again, or what it needs of all of them is kept. */
  readonly recompute: boolean;
  /** Of AdamW's moments. */
  readonly momentBits: MomentBits;
  /** Whether LoRA's inputs drop out. */
  readonly dropout: boolean;
  /** What trains besides LoRA: the scales of packed weights and all norms, or the packed weights too; absent: nothing. */
  readonly alongside?: "scales" | "weights";
}

export interface PlannedLora {
  readonly matrix: PlannedMatrix;
  readonly rank: number;
  readonly dora: boolean;
}

/** LoRA of every linear that has one: what trains, and what only takes part. */
export function plannedLoras(
  model: PlannedModel,
  { rank, dora, below, targets }: TrainingSettings,
): { readonly trained: readonly PlannedLora[]; readonly frozen: readonly PlannedLora[] } {
  const trained: PlannedLora[] = [];
  const frozen: PlannedLora[] = [];
  for (const matrix of model.linears) {
    const calibrated = model.calibratedLora?.targets.get(matrix.module);
    const own = calibrated && { matrix, rank: calibrated.rank, dora: calibrated.magnitude !== null };
    const trains = targets === null || targets.some((target) => matrix.module.endsWith(`.${target}`));
    if (rank !== null && trains) trained.push({ matrix, rank, dora });
    if (own && rank === null) (trains ? trained : frozen).push(own);
    else if (own && below) frozen.push(own);
  }
  return { trained, frozen };
}

/** Elements of its tensors. */
export function loraSizes({ matrix, rank, dora }: PlannedLora): readonly number[] {
  return loraParameterSizes({ weight: matrix }, { rank, dora });
}

/** What trains besides LoRA: elements of its tensors, and what is held to compute the model's weights from them. */
function alongside(
  { linears, normSizes }: PlannedModel,
  what: TrainingSettings["alongside"],
): { readonly sizes: readonly number[]; readonly derivedBytes: number } {
  if (what === undefined) return { sizes: [], derivedBytes: 0 };
  const packed = linears.filter(({ group }) => group > 0);
  const rounded = what === "weights" ? packed.filter(({ trains }) => trains) : [];
  const shapes = rounded.map(({ outFeatures, inFeatures, group }) => ({ outFeatures, inFeatures, group }));
  const scaled = packed.filter((matrix) => !rounded.includes(matrix));
  const sizes = [
    ...shapes.flatMap((shape) => [...TrainedGrid.weightSizes(shape), ...TrainedGrid.gridSizes(shape)]),
    ...scaled.map(({ outFeatures, inFeatures, group }) => (outFeatures * inFeatures) / group),
    ...normSizes,
  ];
  return { sizes, derivedBytes: sum(shapes.map(TrainedGrid.derivedBytes)) };
}

/**
 * What the program grows by while it trains: the kernels' working memory, compiled code and the heap. Measured at ranks 8 and 64 on
 * SmolLM2-135M and on TinyLlama's shape: 32 to 35 MB under Bun, 24 to 52 MB under Deno.
 */
const RUNNING_BYTES = 35e6;

/**
 * In the order in which a reader meets them. Parts of no bytes are left out.
 *
 * @param programBytes resident in this process, which has opened what the run will, but no weights
 */
export function trainingMemory(model: PlannedModel, settings: TrainingSettings, programBytes: number): MemoryPart[] {
  const { config } = model;
  const { sequences, length, recompute, momentBits, dropout } = settings;
  const { trained, frozen } = plannedLoras(model, settings);
  // One buffer for the blocks' linears, one for the head, which comes last or is the embedding.
  const isRounded = (matrix: PlannedMatrix): boolean => settings.alongside === "weights" && matrix.trains;
  const inBlocks = model.linears.some((matrix) => matrix.widened && !isRounded(matrix));
  const widened = [inBlocks, model.tables.at(-1)!.widened].filter(Boolean).length;
  const loras = trained.flatMap(loraSizes);
  const more = alongside(model, settings.alongside);
  const trainedSizes = [...loras, ...more.sizes];
  // Values, gradients and two moments, all in float32.
  const values = parameterBytes(trainedSizes) / 4;
  const loraValues = parameterBytes(loras) / 4;
  const all = [...trained, ...frozen];
  const { states, arena, logits } = trainerMemory(config, sequences, length, {
    rank: Math.max(0, ...all.map(({ rank }) => rank)),
    dora: all.some(({ dora }) => dora),
    factors: settings.alongside !== undefined && inBlocks,
    inputGradient: true,
    dropout,
    recompute,
  });
  const parts = [
    ...weightParts(model),
    { part: "frozen LoRA", bytes: 4 * sum(frozen.flatMap(loraSizes)) },
    { part: "LoRA", bytes: loraValues },
    { part: "what trains besides", bytes: values - loraValues },
    { part: "weights that it is rounded to", bytes: more.derivedBytes },
    { part: "gradients", bytes: values },
    { part: "optimizer state", bytes: parameterBytes(trainedSizes, momentBits) - 2 * values },
    { part: "states between blocks", bytes: states },
    { part: `forward and backward pass of ${recompute ? "one block" : "all blocks"}`, bytes: arena },
    { part: "logits of a chunk", bytes: logits },
    { part: "weights in float32, some rows at a time", bytes: widened * sharedWeightBytes(config) },
    { part: "program", bytes: programBytes + RUNNING_BYTES },
  ];
  return parts.filter(({ bytes }) => bytes > 0);
}

/** The model as it lies on the device. */
export function weightParts({ linears, tables, vectorBytes }: PlannedModel): MemoryPart[] {
  return [
    { part: "packed weights", bytes: sum(linears.map(({ weightBytes }) => weightBytes)) },
    { part: "scales and zeros", bytes: sum(linears.map(({ scaleBytes }) => scaleBytes)) },
    ...tables.map(({ module, weightBytes, scaleBytes }) => {
      const only = tables.length === 1 ? "embedding and head" : module === "lm_head" ? "head" : "embedding";
      return { part: only, bytes: weightBytes + scaleBytes };
    }),
    { part: "norms and biases", bytes: vectorBytes },
  ];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
