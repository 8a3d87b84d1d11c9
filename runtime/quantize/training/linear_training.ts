/** Some linears of a block while they train together: their quantizers, LoRA, parameters and optimizer. */
import type { Context } from "../../../ffi/mod.ts";
import { blockLinears, type Linear } from "../../models/weights.ts";
import type { TrainableLinear } from "../../ops/training.ts";
import { ParameterGroup } from "../../training/parameters.ts";
import { bitsOf } from "../bits_for.ts";
import type { BlockJob, QuantizedLinear } from "../method.ts";
import { initialLora, LoraTraining, loraParameterSizes } from "./lora.ts";
import type { Recipe, TrainingView } from "./recipe.ts";
import { type StartingPoint, startingPoint } from "./starting_point.ts";
import type { QuantizerShape, WeightQuantizer } from "./weight_quantizer.ts";

export class LinearTraining implements Disposable {
  readonly #recipe: Recipe;
  readonly #owned: Disposable[] = [];
  readonly #groups: ParameterGroup[] = [];
  readonly #quantizers = new Map<Linear, WeightQuantizer>();
  readonly #loras = new Map<Linear, LoraTraining>();
  readonly #trainable = new Map<Linear, TrainableLinear>();
  /** LoRA runs beside the quantized weight, as DoRA's norms need it; else it is added to the weight once a step. */
  readonly #separate: boolean;

  constructor(job: BlockJob, linears: readonly Linear[], recipe: Recipe) {
    this.#recipe = recipe;
    this.#separate = job.settings.dora;
    try {
      this.#build(job, linears);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #build(job: BlockJob, linears: readonly Linear[]): void {
    const { context, settings } = job;
    const recipe = this.#recipe;
    const shapes = linears.map((linear) => shapeOf(job, linear));
    const groups = recipe
      .groups(settings)
      .map(({ sizes, settings }) => this.#group(context, shapes.flatMap(sizes), settings));
    const trainsLora = recipe.lora && settings.rank > 0;
    const lora = trainsLora
      ? this.#group(
          context,
          linears.flatMap((linear) => loraParameterSizes(linear, settings)),
          { learningRate: settings.loraLearningRate, weightDecay: settings.weightDecay },
        )
      : null;
    const largest = Math.max(...shapes.map(({ outFeatures, inFeatures }) => outFeatures * inFeatures));
    const dweight = this.#own(context.alloc(largest * 4)).at(0);
    for (const [i, linear] of linears.entries()) {
      const start = this.#own(startingPoint(job, linear, trainsLora));
      const quantizer = this.#own(recipe.quantizer(context, { ...start, shape: shapes[i] }, groups));
      this.#quantizers.set(linear, quantizer);
      if (lora) {
        const initial = this.#initialLora(job, linear, start);
        this.#loras.set(linear, new LoraTraining(context, linear, lora, settings, initial));
      }
      this.#trainable.set(linear, {
        weight: quantizer.weight,
        dweight,
        lora: (this.#separate && this.#loras.get(linear)?.trainable) || null,
        gradientsReady: () => {
          if (!this.#separate) this.#loras.get(linear)?.backward(dweight);
          quantizer.backward(dweight);
        },
      });
    }
  }

  #initialLora(job: BlockJob, linear: Linear, start: StartingPoint) {
    const place = [job.layer, blockLinears(job.block).findIndex(({ name }) => name === linear.name)];
    return start.lora ?? this.#recipe.initialLora?.(linear) ?? initialLora(job.context, linear, job.settings, place);
  }

  #group(context: Context, sizes: readonly number[], settings: ConstructorParameters<typeof ParameterGroup>[2]) {
    const group = this.#own(new ParameterGroup(context, sizes, settings));
    this.#groups.push(group);
    return group;
  }

  #own<T extends Disposable>(value: T): T {
    this.#owned.push(value);
    return value;
  }

  /** How the training ops run these linears. */
  get trainable(): ReadonlyMap<Linear, TrainableLinear> {
    return this.#trainable;
  }

  get view(): TrainingView {
    return { quantizers: this.#quantizers, loras: this.#loras };
  }

  /** Begins a step: the weights follow from the parameters. */
  prepare(): void {
    for (const [linear, quantizer] of this.#quantizers) {
      quantizer.prepare();
      if (!this.#separate) this.#loras.get(linear)?.mergeInto(quantizer.weight);
    }
  }

  /** Ends a step: the parameters move along their gradients, at `factor` times their learning rates. */
  step(factor: number): void {
    for (const group of this.#groups) group.step(factor);
  }

  /** What is stored of each linear, by module name. */
  result(): Map<string, QuantizedLinear> {
    return new Map(
      [...this.#quantizers].map(([linear, quantizer]) => [
        linear.name,
        { weights: quantizer.read(), lora: this.#loras.get(linear)?.read(this.#recipe.storable) ?? null },
      ]),
    );
  }

  [Symbol.dispose](): void {
    for (const owned of this.#owned.splice(0).reverse()) owned[Symbol.dispose]();
  }
}

export function shapeOf(job: BlockJob, linear: Linear): QuantizerShape {
  const { outFeatures, inFeatures } = linear.weight;
  return { outFeatures, inFeatures, bits: bitsOf(job, linear), group: job.settings.group };
}
