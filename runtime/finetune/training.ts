/** A model on the device with what trains of it. */
import { type Context, WEIGHT_DENSE } from "../../ffi/mod.ts";
import { type AdapterSource, dtypeBytes } from "../formats/mod.ts";
import { loadDecoder } from "../models/load.ts";
import { blockLinears, type Linear } from "../models/weights.ts";
import type { TrainableLinear, TrainableLora } from "../ops/training.ts";
import type { AffineWeights } from "../quantize/method.ts";
import { readStored } from "../quantize/read_stored.ts";
import { FrozenLora } from "../training/frozen_lora.ts";
import { ModelTrainer } from "../training/model_trainer.ts";
import type { Objective } from "../training/objective.ts";
import { groupCount, TrainedScales } from "../training/trained_scales.ts";
import type { Groups } from "./checkpoint.ts";
import { type FirstWeights, firstWeights } from "./first_weights.ts";
import type { FinetuneOptions } from "./options.ts";
import type { Prepared } from "./prepare.ts";
import type { FinetuneSettings } from "./settings.ts";
import { startValues } from "./start.ts";
import { type LoraValues, TrainedAdapter } from "./trained_adapter.ts";
import { TrainedNorms } from "./trained_norms.ts";
import { canTrain, TrainedWeights } from "./trained_weights.ts";
import { TrainingStep } from "./training_step.ts";

const NO_LORA: ReadonlyMap<Linear, TrainableLora> = new Map();

/** LoRA of one linear for the result. */
export interface OutputLora {
  readonly linear: Linear;
  /** As it is now. */
  readonly read: () => LoraValues;
}

/** As the trainer takes it. */
export function objectiveOf({ objective, temperature, mix, topK }: FinetuneSettings): Objective {
  return objective === "sft" ? { kind: "sft" } : { kind: "distill", temperature, mix, topK };
}

/** What a run writes that lies on the disk at the same time: the state twice while it is replaced, the best values, the result. */
export function diskBytes(training: Training): number {
  return 2 * training.stateBytes + 2 * 4 * training.parameters + training.weightBytes;
}

export class Training implements Disposable {
  readonly #owned: Disposable[] = [];
  /** null: nothing has LoRA that trains. */
  readonly #adapter: TrainedAdapter | null;
  readonly #kept: ReadonlyMap<Linear, LoraValues>;
  readonly #scales: TrainedScales | null;
  readonly #weights: TrainedWeights | null;
  readonly #norms: TrainedNorms | null;
  readonly #modelBytes: number;
  /** All that could have LoRA, in forward order. */
  readonly linears: readonly Linear[];
  readonly groups: Groups;
  readonly trainer: ModelTrainer;
  readonly step: TrainingStep;

  constructor(context: Context, prepared: Prepared, options: Pick<FinetuneOptions, "settings" | "recompute">) {
    const { settings, recompute } = options;
    const { checkpoint, config, start, shape } = prepared;
    try {
      const { weights, weightBytes } = this.#own(loadDecoder(context, checkpoint, config));
      this.#modelBytes = weightBytes;
      this.linears = weights.blocks.flatMap(blockLinears);
      const { trained, kept } = startValues(context, weights, start, settings.targets, settings.seed);
      const { learningRate, weightDecay, optimizerBits: momentBits } = settings;
      this.#kept = kept;
      const decaying = { learningRate, weightDecay, momentBits };
      this.#adapter =
        trained.size > 0 ? this.#own(new TrainedAdapter(context, trained, start.lora.rsLora, decaying)) : null;
      const frozenIn = (adapter: AdapterSource | null, linears: readonly Linear[]) =>
        adapter === null ? NO_LORA : this.#own(new FrozenLora(context, adapter, linears)).linears;
      const untrained = frozenIn(start.from, [...kept.keys()]);
      const below = frozenIn(start.below, this.linears);
      const { scaleLearningRate, trainScales } = settings;
      const relative = { learningRate: scaleLearningRate, weightDecay: 0, momentBits };
      const packed = this.linears.filter(({ weight }) => weight.kind !== WEIGHT_DENSE);
      this.#weights = this.#trainedWeights(context, packed, prepared, settings);
      const scaled = trainScales ? packed.filter((linear) => !this.#weights?.linears.has(linear)) : [];
      this.#scales = scaled.length > 0 ? this.#own(new TrainedScales(context, scaled, relative)) : null;
      this.#norms = trainScales ? this.#own(new TrainedNorms(context, weights, relative)) : null;
      const trainable = new Map<Linear, TrainableLinear>();
      for (const linear of this.linears) {
        const lora = this.#adapter?.trainable.get(linear) ?? untrained.get(linear) ?? null;
        const factors = this.#scales?.trainable.get(linear);
        const under = below.get(linear) ?? null;
        const own = this.#weights?.trainable(linear) ?? { weight: null, dweight: null };
        trainable.set(linear, { ...own, lora, below: under, ...(factors && { factors }) });
      }
      this.groups = {
        ...(this.#adapter && { lora: this.#adapter.parameters }),
        ...(this.#weights && { weights: this.#weights.weights, grid: this.#weights.grid }),
        ...(this.#scales && { scales: this.#scales.parameters }),
        ...(this.#norms && { norms: this.#norms.parameters }),
      };
      const norms = this.#norms?.trainable;
      const dropout = { probability: settings.dropout, seed: settings.seed };
      const objective = objectiveOf(settings);
      const given = { context, weights, trainable, ...shape, dropout, objective, recompute };
      this.trainer = this.#own(new ModelTrainer({ ...given, compute: settings.compute, ...(norms && { norms }) }));
      const groups = Object.values(this.groups);
      const { trainer } = this;
      const derived = this.#weights && { derived: this.#weights };
      this.step = this.#own(new TrainingStep({ context, trainer, groups, maxNorm: settings.maxNorm, ...derived }));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** null: no weights train. */
  #trainedWeights(
    context: Context,
    packed: readonly Linear[],
    { checkpoint, start, weightsFrom }: Prepared,
    { trainWeights, weightLearningRate, scaleLearningRate, optimizerBits: momentBits }: FinetuneSettings,
  ): TrainedWeights | null {
    const linears = trainWeights ? packed.filter(canTrain) : [];
    if (linears.length === 0) return null;
    const first = (linear: Linear): FirstWeights => {
      const { outFeatures, inFeatures } = linear.weight;
      const stored = readStored(checkpoint.linear(linear.name, outFeatures, inFeatures)) as AffineWeights;
      return firstWeights(linear, stored, weightsFrom, start.from);
    };
    const weights = { learningRate: weightLearningRate, weightDecay: 0, momentBits };
    const grid = { ...weights, learningRate: scaleLearningRate };
    return this.#own(new TrainedWeights(context, linears, first, { weights, grid }));
  }

  /** Values that train. */
  get parameters(): number {
    const loras = [...(this.#adapter?.trainable ?? [])].map(([linear, { rank, dora }]) => {
      const { inFeatures, outFeatures } = linear.weight;
      return rank * (inFeatures + outFeatures) + (dora ? outFeatures : 0);
    });
    const scales = [...(this.#scales?.trainable.keys() ?? [])].map(groupCount);
    const norms = [...(this.#norms?.trainable.keys() ?? [])].map(({ size }) => size);
    const weights = this.#weights?.count ?? 0;
    return [...loras, ...scales, ...norms].reduce((sum, count) => sum + count, weights);
  }

  /** Of values and moments. */
  get stateBytes(): number {
    const parts = Object.values(this.groups).flatMap(({ state }) => state);
    return parts.reduce((sum, { dtype, count }) => sum + count * dtypeBytes(dtype), 0);
  }

  /** Of a packed linear whose scales train, as they are now: float32 [out, in / group]. */
  factors(linear: Linear): Float32Array | undefined {
    return this.#scales?.trainable.has(linear) ? this.#scales.read(linear) : undefined;
  }

  /** Of a linear whose weights train, as they are stored now. */
  weights(linear: Linear): AffineWeights | undefined {
    return this.#weights?.linears.get(linear)?.read();
  }

  /** Weights of norms that train, by module name, as they are now. */
  get norms(): ReadonlyMap<string, Float32Array> {
    return this.#norms?.read() ?? new Map();
  }

  /** Of the model that --train-scales writes; 0 without. */
  get weightBytes(): number {
    return this.#norms === null ? 0 : this.#modelBytes;
  }

  /** The LoRA of all linears that have it, in the model's order. */
  get loras(): readonly OutputLora[] {
    const adapter = this.#adapter;
    return this.linears.flatMap((linear) => {
      const kept = this.#kept.get(linear);
      if (kept) return [{ linear, read: () => kept }];
      return adapter?.trainable.has(linear) ? [{ linear, read: () => adapter.read(linear) }] : [];
    });
  }

  #own<T extends Disposable>(value: T): T {
    this.#owned.push(value);
    return value;
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}
