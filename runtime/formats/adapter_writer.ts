/** Writes LoRA as peft does: adapter_config.json and adapter_model.safetensors. docs/FORMAT.md, Adapters. */
import { join } from "node:path";
import { writeJson } from "./atomic.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_writer.ts";

/** A tensor whose name follows from its place. */
export type LoraTensor = Omit<TensorToWrite, "name">;

export interface LoraToWrite {
  /** Hugging Face's module name. */
  readonly module: string;
  readonly rank: number;
  readonly alpha: number;
  /** [rank, in] */
  readonly a: LoraTensor;
  /** [out, rank] */
  readonly b: LoraTensor;
  /** [out], where it is DoRA */
  readonly magnitude: LoraTensor | null;
}

export interface AdapterToWrite {
  /** At least one. */
  readonly loras: readonly LoraToWrite[];
  /** Every module of the model that could have one. */
  readonly modules: readonly string[];
  /** The scale is alpha / sqrt(rank). */
  readonly rsLora?: boolean;
  /** That it was trained with. */
  readonly dropout?: number;
}

/** Writes both files into `dir`, which exists. */
export async function writeAdapter(dir: string, adapter: AdapterToWrite): Promise<void> {
  const { loras, modules, rsLora = false, dropout = 0 } = adapter;
  const tensors = loras.flatMap(({ module, a, b, magnitude }): TensorToWrite[] => {
    const at = `base_model.model.${module}`;
    return [
      { ...a, name: `${at}.lora_A.weight` },
      { ...b, name: `${at}.lora_B.weight` },
      ...(magnitude === null ? [] : [{ ...magnitude, name: `${at}.lora_magnitude_vector` }]),
    ];
  });
  await writeSafetensors(join(dir, "adapter_model.safetensors"), tensors);
  const [first] = loras as [LoraToWrite];
  const others = loras.filter(({ rank, alpha }) => rank !== first.rank || alpha !== first.alpha);
  const patterns = (key: "rank" | "alpha") =>
    Object.fromEntries(others.map((lora) => [lora.module.replaceAll(".", "\\."), lora[key]]));
  await writeJson(join(dir, "adapter_config.json"), {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: null,
    inference_mode: true,
    r: first.rank,
    lora_alpha: first.alpha,
    lora_dropout: dropout,
    bias: "none",
    fan_in_fan_out: false,
    init_lora_weights: true,
    use_rslora: rsLora,
    use_dora: loras.some(({ magnitude }) => magnitude !== null),
    target_modules: targetModules(modules, new Set(loras.map(({ module }) => module))),
    rank_pattern: patterns("rank"),
    alpha_pattern: patterns("alpha"),
  });
}

/** Last parts of names where they say it all, whole names otherwise. */
function targetModules(modules: readonly string[], targeted: ReadonlySet<string>): string[] {
  const last = (module: string): string => module.slice(module.lastIndexOf(".") + 1);
  const parts = new Set([...targeted].map(last));
  return modules.filter((module) => parts.has(last(module))).length === targeted.size ? [...parts] : [...targeted];
}
