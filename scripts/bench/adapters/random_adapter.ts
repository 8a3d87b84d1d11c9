/** Adapters of random float16 values on all linears of a model. */
import { mkdirSync } from "node:fs";
import { writeAdapter } from "../../../runtime/formats/adapter_writer.ts";
import { floatsToHalves } from "../../../runtime/formats/floats.ts";
import type { DecoderConfig } from "../../../runtime/models/config.ts";
import { linearNames } from "../../../runtime/models/linear_names.ts";

/** Writes it to `dir`, which is made, and gives `dir`. */
export async function writeRandomAdapter(
  config: DecoderConfig,
  dir: string,
  rank: number,
  seed: number,
): Promise<string> {
  let state = seed + 1;
  const tensor = (shape: readonly [number, number]) => {
    const values = Float32Array.from({ length: shape[0] * shape[1] }, () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state / 2 ** 32 - 0.5) * 0.02;
    });
    return { dtype: "F16" as const, shape, data: new Uint8Array(floatsToHalves(values).buffer) };
  };
  const linears = linearNames(config);
  mkdirSync(dir, { recursive: true });
  await writeAdapter(dir, {
    loras: linears.map(({ module, outFeatures, inFeatures }) => ({
      ...{ module, rank, alpha: rank },
      a: tensor([rank, inFeatures]),
      b: tensor([outFeatures, rank]),
      magnitude: null,
    })),
    modules: linears.map(({ module }) => module),
  });
  return dir;
}
