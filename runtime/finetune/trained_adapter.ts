/** The LoRA of a model's linears while it trains: one parameter group, so a step of all of them is one op. */
import type { Context, Ref } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import type { TrainableLora } from "../ops/training.ts";
import { type InitialLora, LoraTraining, loraParameterSizes } from "../quantize/training/lora.ts";
import { type GroupSettings, ParameterGroup } from "../training/parameters.ts";

/** LoRA of one linear at some moment: A [rank, in], B [out, rank] and, for DoRA, the magnitude [out]. */
export interface LoraValues extends InitialLora {
  readonly rank: number;
  readonly alpha: number;
}

export class TrainedAdapter implements Disposable {
  readonly parameters: ParameterGroup;
  readonly #loras = new Map<Linear, { readonly training: LoraTraining; readonly alpha: number }>();

  /** @param rsLora whether the scale is alpha / sqrt(rank) (arXiv 2312.03732), not alpha / rank */
  constructor(context: Context, starts: ReadonlyMap<Linear, LoraValues>, rsLora: boolean, settings: GroupSettings) {
    const shapeOf = ({ rank, alpha, magnitude }: LoraValues) => {
      return { rank, alpha: rsLora ? alpha * Math.sqrt(rank) : alpha, dora: magnitude !== null };
    };
    const sizes = [...starts].flatMap(([linear, start]) => loraParameterSizes(linear, shapeOf(start)));
    this.parameters = new ParameterGroup(context, sizes, settings);
    for (const [linear, start] of starts) {
      const training = new LoraTraining(context, linear, this.parameters, shapeOf(start), start);
      this.#loras.set(linear, { training, alpha: start.alpha });
    }
  }

  get trainable(): ReadonlyMap<Linear, TrainableLora> {
    return new Map([...this.#loras].map(([linear, { training }]) => [linear, training.trainable]));
  }

  /** The matrices of one linear, each read from the device when it is asked for. */
  read(linear: Linear): LoraValues {
    const lora = this.#loras.get(linear);
    if (!lora) throw new Error(`Cannot read the LoRA of ${linear.name}: it does not train`);
    const { a, b, rank, dora } = lora.training.trainable;
    const { outFeatures, inFeatures } = linear.weight;
    return {
      get a() {
        return download(a, rank * inFeatures);
      },
      get b() {
        return download(b, outFeatures * rank);
      },
      get magnitude() {
        return dora && download(dora.magnitude, outFeatures);
      },
      rank,
      alpha: lora.alpha,
    };
  }

  [Symbol.dispose](): void {
    this.parameters[Symbol.dispose]();
  }
}

function download({ buffer, offset }: Ref, count: number): Float32Array {
  return buffer.download(new Float32Array(count), offset);
}
