/** Small LoRA adapters for the tests of this folder, and what they stand for in float64. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BINDING } from "../formats/adapter.ts";
import type { AdapterBinding, AdapterSource } from "../formats/mod.ts";
import { readTensor } from "../formats/mod.ts";
import { type TensorToWrite, writeSafetensors } from "../formats/safetensors_writer.ts";
import { uniformNumbers } from "../quantize/random.ts";

/** [out, in] by the last parts of names, of the fixture's blocks. */
export const SHAPES: Readonly<Record<string, readonly [number, number]>> = {
  "self_attn.q_proj": [128, 128],
  "self_attn.v_proj": [64, 128],
  "mlp.down_proj": [128, 256],
};

export interface AdapterShape {
  readonly rank: number;
  readonly alpha: number;
  /** Keys of SHAPES. */
  readonly parts: readonly string[];
  readonly seed: number;
  readonly rsLora?: boolean;
  readonly dora?: boolean;
  /** More of adapter_config.json. */
  readonly config?: object;
  /** Ranks by part, where they are not `rank`; `config` has to say so too. */
  readonly ranks?: Readonly<Record<string, number>>;
  readonly binding?: AdapterBinding;
}

/** Makes the folder. */
export async function writeTestAdapter(dir: string, shape: AdapterShape): Promise<string> {
  const { parts, rsLora = false, dora = false, binding } = shape;
  mkdirSync(dir);
  const next = uniformNumbers(shape.seed);
  const tensor = (name: string, dimensions: readonly number[], size: number): TensorToWrite => {
    const count = dimensions.reduce((a, b) => a * b);
    const values = Float32Array.from({ length: count }, () => size * next());
    return { name, dtype: "F32", shape: dimensions, data: new Uint8Array(values.buffer) };
  };
  const tensors = [0, 1].flatMap((layer) =>
    parts.flatMap((part) => {
      const [out, into] = SHAPES[part]!;
      const rank = shape.ranks?.[part] ?? shape.rank;
      const prefix = `base_model.model.model.layers.${layer}.${part}`;
      return [
        tensor(`${prefix}.lora_A.weight`, [rank, into], 0.2),
        tensor(`${prefix}.lora_B.weight`, [out, rank], 0.2),
        ...(dora ? [tensor(`${prefix}.lora_magnitude_vector`, [out], 1)] : []),
      ];
    }),
  );
  await writeSafetensors(join(dir, "adapter_model.safetensors"), tensors);
  const config = {
    ...{ peft_type: "LORA", r: shape.rank, lora_alpha: shape.alpha, bias: "none", use_rslora: rsLora, use_dora: dora },
    target_modules: parts.map((part) => part.split(".")[1]),
    ...shape.config,
  };
  writeFileSync(join(dir, "adapter_config.json"), JSON.stringify(config));
  if (binding) writeFileSync(join(dir, BINDING), JSON.stringify(binding));
  return dir;
}

/** factor * scale B A, float64 [out, in]; zeros where the adapter has nothing for the module. */
export function product(adapter: AdapterSource, module: string, factor = 1): Float64Array {
  const [out, into] = SHAPES[module.split(".").slice(-2).join(".")]!;
  const y = new Float64Array(out * into);
  const target = adapter.targets.get(module);
  if (!target) return y;
  const { rank, scale } = target;
  const [a, b] = [readTensor(target.a), readTensor(target.b)];
  for (let r = 0; r < out; r++) {
    for (let k = 0; k < rank; k++) {
      const weight = factor * scale * b[r * rank + k]!;
      for (let c = 0; c < into; c++) y[r * into + c] = y[r * into + c]! + weight * a[k * into + c]!;
    }
  }
  return y;
}

export function sumOf(...terms: readonly Float64Array[]): Float64Array {
  return terms[0]!.map((_, i) => terms.reduce((sum, term) => sum + term[i]!, 0));
}

/** |x - y| / |y|, of all elements together. */
export function distance(x: Float64Array, y: Float64Array): number {
  const size = (values: Float64Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return size(x.map((value, i) => value - y[i]!)) / size(y);
}
