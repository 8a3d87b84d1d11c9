import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context, F32, WEIGHT_DENSE } from "../../../ffi/mod.ts";
import type { BlockWeights, Linear } from "../../models/weights.ts";
import { dequantizeLut, nfTable } from "../lut.ts";
import type { BlockJob, MethodEvent } from "../method.ts";
import { DEFAULTS } from "../settings.ts";
import { nfMethods } from "./nf.ts";

const NAMES = ["q", "k", "v", "o", "gate", "up", "down"] as const;
const [OUT, IN] = [24, 128];

/** A block of seven matrices [24, 128] with waves of different size. */
function makeBlock(context: Context): { block: BlockWeights; values: Map<string, Float32Array> } {
  const values = new Map<string, Float32Array>();
  const linears = NAMES.map((name, n): [string, Linear] => {
    const wave = Float32Array.from({ length: OUT * IN }, (_, i) => Math.sin(i * (n + 1) * 1.7) * (n + 1) * 0.01);
    const buffer = context.alloc(wave.byteLength);
    buffer.upload(wave);
    values.set(name, wave);
    const shape = { kind: WEIGHT_DENSE, dtype: F32, bits: 0, group: 0, zero: 0, outFeatures: OUT, inFeatures: IN };
    return [name, { name, weight: { ...shape, data: buffer.at(0) }, bias: null, loraTarget: -1 }];
  });
  return { block: Object.fromEntries(linears) as unknown as BlockWeights, values };
}

describe("nf4, nf3 and nf2", () => {
  it("store every matrix that is not kept in the levels of their table", async () => {
    using context = Context.open();
    const { block, values } = makeBlock(context);
    for (const method of nfMethods) {
      const bits = Number(method.name.slice(2)) as 2 | 3 | 4;
      const errors: number[] = [];
      for (const doubleQuantization of [false, true]) {
        const events: MethodEvent[] = [];
        const job = {
          context,
          block,
          kept: new Set([block.o]),
          settings: { ...DEFAULTS, group: 32, doubleQuantization },
          report: async (event: MethodEvent) => void events.push(event),
        } as unknown as BlockJob;
        const result = await method.quantizeBlock(job);
        assertEquals(
          [...result.keys()],
          NAMES.filter((name) => name !== "o"),
        );
        assertEquals(
          events.map(({ part, step, steps }) => [part, step, steps]),
          [...result.keys()].map((name, i) => [name, i, 6]),
        );
        let error = 0;
        for (const [name, { weights, lora }] of result) {
          assert(weights.family === "lut" && lora === null);
          assertEquals([weights.bits, weights.group, weights.double !== null], [bits, 32, doubleQuantization]);
          assertEquals(weights.table, nfTable(bits));
          const original = values.get(name)!;
          for (const [i, value] of dequantizeLut(weights).entries()) error += (value - original[i]!) ** 2;
        }
        errors.push(error);
      }
      // 8-bit scales cost little beside the rounding of the weights.
      assert(errors[1]! < 1.1 * errors[0]!, `${method.name}: ${errors}`);
    }
  });

  it("are the nearer the more bits they have", async () => {
    using context = Context.open();
    const { block, values } = makeBlock(context);
    const errors = await Promise.all(
      nfMethods.map(async (method) => {
        const job = { context, block, kept: new Set(), settings: DEFAULTS, report: async () => {} };
        const result = await method.quantizeBlock(job as unknown as BlockJob);
        const { weights } = result.get("q")!;
        assert(weights.family === "lut");
        const back = dequantizeLut(weights);
        return values.get("q")!.reduce((sum, value, i) => sum + (value - back[i]!) ** 2, 0);
      }),
    );
    assert(errors[0]! * 3 < errors[1]! && errors[1]! * 3 < errors[2]!, String(errors));
  });
});
