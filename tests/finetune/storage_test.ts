/**
 * Training on a packed base against training on its float32 dequantised twin (`apiq export`): every storage family, and every
 * family of models.
 */
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { exportModel } from "../../runtime/export/export_model.ts";
import { finetune } from "../../runtime/finetune/finetune.ts";
import { openAdapter, openCheckpoint, readTensor } from "../../runtime/formats/mod.ts";
import type { MethodSettings, QuantizationMethod, QuantizedLinear } from "../../runtime/quantize/method.ts";
import { rtnMethod } from "../../runtime/quantize/methods/rtn.ts";
import type { QuantizeOptions } from "../../runtime/quantize/pipeline.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { createDenseModel, type DenseModelOptions } from "../fixtures/dense_model.ts";
import { smallRun } from "../quantize/run.ts";
import { readLog, smallOptions, temporaryFolder } from "./run.ts";

/** rtn with the minimum of each group in place of its zero. */
const floatZeros: QuantizationMethod = {
  ...rtnMethod,
  async quantizeBlock(job) {
    const made = await rtnMethod.quantizeBlock(job);
    const moved = ([name, { weights, lora }]: [string, QuantizedLinear]): [string, QuantizedLinear] => {
      if (weights.family !== "affine") throw new Error("Expected affine weights");
      const zeros = weights.zeros.map((zero, i) => -zero * weights.scales[i]!);
      return [name, { weights: { ...weights, zero: "float", zeros }, lora }];
    };
    return new Map([...made].map(moved));
  },
};

interface Case {
  readonly method?: string;
  readonly settings?: Partial<MethodSettings>;
  readonly options?: Partial<QuantizeOptions>;
  readonly model?: DenseModelOptions;
  readonly lora?: object;
  /** The base is not packed at all. */
  readonly dense?: boolean;
  /** Training comes on top of a calibrated LoRA; the twin has it added to its weights. */
  readonly onTop?: boolean;
}

const CASES: Readonly<Record<string, Case>> = {
  "2 bits": {},
  "3 bits, groups of 32": { settings: { bits: 3, group: 32 } },
  "4 bits, groups of 128": { settings: { bits: 4, group: 128 } },
  "8 bits": { settings: { bits: 8 } },
  "float zeros": { settings: { bits: 4, group: 32 }, options: { method: floatZeros } },
  "a table of 4 bits": { method: "nf4", settings: { bits: 4 } },
  "a table of 3 bits": { method: "nf3", settings: { bits: 3 } },
  "a table of 2 bits with scales in 8 bits": { method: "nf2", settings: { bits: 2, doubleQuantization: true } },
  "linears that were kept in 16 bits": {
    options: { keep: ["model.layers.*.mlp.down_proj", "model.layers.0.*.q_proj"] },
  },
  "a tied table in 4 bits": { options: { embeddingBits: 4 }, model: { tied: true } },
  "embedding and head in 8 bits": { options: { embeddingBits: 8 } },
  "mistral, a window of 24 tokens": { model: { family: "mistral" } },
  "qwen2, biases, DoRA": { model: { family: "qwen2" }, lora: { dora: true } },
  "qwen3, q and k norms, rsLoRA": { model: { family: "qwen3" }, lora: { rsLora: true, rank: 5 } },
  "DoRA on a table": { method: "nf4", settings: { bits: 4 }, lora: { dora: true } },
  "a base in float16": { dense: true },
  "a base in bfloat16, DoRA": { dense: true, model: { dtype: "BF16" }, lora: { dora: true } },
  "LoRA on top of a calibrated one of higher rank": { method: "apiq-bw", settings: { rank: 8, alpha: 8 }, onTop: true },
  "DoRA on top of a calibrated LoRA": {
    method: "apiq-bw",
    settings: { rank: 3, alpha: 8 },
    lora: { dora: true },
    onTop: true,
  },
};

/** |a - b| / |b| */
function distance(a: Float32Array, b: Float32Array): number {
  const square = (sum: number, value: number): number => sum + value * value;
  return Math.sqrt(a.map((value, i) => value - b[i]!).reduce(square, 0) / b.reduce(square, 0));
}

/** The folder of a case's base. */
async function makeBase(
  source: string,
  folder: string,
  { method = "rtn", settings, options, dense }: Case,
): Promise<string> {
  if (dense) return source;
  const out = join(folder, "packed");
  await quantize({ ...smallRun(source, folder, method, settings, options), out, threads: 1 });
  return out;
}

describe("finetune on a packed base equals that on its dequantised twin", () => {
  for (const [name, given] of Object.entries(CASES)) {
    const { model, lora, onTop = false } = given;
    it(name, async () => {
      using source = await createDenseModel(model);
      using folder = temporaryFolder();
      const base = await makeBase(source.dir, folder.dir, given);
      const twin = join(folder.dir, "twin");
      await exportModel({ model: base, out: twin, dtype: "float32", mergeLora: onTop });
      assertEquals(openCheckpoint(base).quantization === undefined, given.dense === true);
      assertEquals(openCheckpoint(twin).quantization, undefined);
      const run = async (dir: string, out: string) => {
        const more = { out: join(folder.dir, out), start: "zero", lora: { rank: 4, alpha: 8, ...lora } };
        return (await finetune(smallOptions(dir, folder.dir, { epochs: 1 }, more))).out;
      };
      const [one, other] = [await run(base, "one"), await run(twin, "other")];
      const [steps, expected] = [readLog(one), readLog(other)];
      assertEquals(steps.length, 4);
      for (const [i, step] of steps.entries()) {
        const right = expected[i]!;
        assert(step.type === "step" && right.type === "step");
        for (const key of ["loss", "norm", "learningRate"] as const) {
          const error = Math.abs(step[key] - right[key]) / (right[key] || 1);
          assert(error < 1e-4, `step ${step.step}: ${key} ${step[key]}, expected ${right[key]}`);
        }
      }
      const wanted = openAdapter(other).targets;
      for (const [module, { a, b }] of openAdapter(one).targets) {
        for (const [got, want] of [
          [a, wanted.get(module)!.a],
          [b, wanted.get(module)!.b],
        ] as const) {
          const error = distance(readTensor(got), readTensor(want));
          assert(error < 1e-3, `${got.name} is off by ${error}`);
        }
      }
    });
  }
});
