/** What the embedded model must reach, and whether it does. */
import {
  type Compared,
  compare,
  enoughChats,
  type MeasureOptions,
  type ModelMeasures,
  measureModel,
} from "./measure.ts";

export const GATES = {
  /** Of everything in the model's folder. */
  bytes: 64_000_000,
  /** Of the full-precision model's perplexity. */
  perplexityRatio: 1.6,
  /** What the answer to the first judged prompt holds. */
  answer: "Paris",
} as const;

export interface GateReport {
  /** How many held-out chats were answered and compared. */
  readonly chats: number;
  readonly reference: ModelMeasures;
  /** By folder, in the order in which they were given. */
  readonly models: Readonly<Record<string, ModelMeasures & Compared & { readonly ratio: number }>>;
  /** Of the last model. */
  readonly passed: Readonly<Record<keyof typeof GATES, boolean>>;
}

/** @param models the last one is what is judged; those before it show the way there */
export async function runGates(models: readonly string[], options: MeasureOptions): Promise<GateReport> {
  const chats = enoughChats(options.heldOut, options.budget).length;
  const reference = await measureModel(options.reference, options);
  const measured: Record<string, GateReport["models"][string]> = {};
  for (const model of models) {
    const compared = await compare(model, options);
    const { kl, agreement } = compared;
    options.note(`${model}: KL ${kl.toFixed(4)} nats, ${(100 * agreement).toFixed(1)} % the same likeliest token`);
    const measures = await measureModel(model, options);
    measured[model] = { ...measures, ...compared, ratio: measures.perplexity / reference.perplexity };
  }
  return { chats, reference, models: measured, passed: verdict(measured[models.at(-1)!]!) };
}

export function verdict({ bytes, ratio, judged }: GateReport["models"][string]): GateReport["passed"] {
  return {
    bytes: bytes <= GATES.bytes,
    perplexityRatio: ratio <= GATES.perplexityRatio,
    answer: judged[0]!.answer.includes(GATES.answer),
  };
}
