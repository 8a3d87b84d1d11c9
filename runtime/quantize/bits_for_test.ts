import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { blockLinears } from "../models/weights.ts";
import { bitsByModule, checkTableBits, parseBitsFor } from "./bits_for.ts";
import { testJob } from "./methods/test_job.ts";
import { METHODS } from "./registry.ts";
import type { SourceLinear } from "./source.ts";

const PARTS = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"];
const linears = [0, 1, 2].flatMap((layer) =>
  PARTS.map((part) => ({ module: `model.layers.${layer}.${part}` }) as SourceLinear),
);

describe("--bits-for", () => {
  it("gives no linear more bits than a table of normal-float has", () => {
    const message = "Cannot quantize with loftq: received 8 bits, expected 2, 3 or 4 over normal-float";
    for (const [bits, others] of [
      [8, []],
      [2, [4, 8]],
    ] as const) {
      assertThrows(() => checkTableBits("loftq", { base: "nf", bits }, others), RangeError, message);
      checkTableBits("loftq", { base: "affine", bits }, others);
    }
    checkTableBits("loftq", { base: "nf", bits: 3 }, [2, 4]);
  });

  it("reads a pattern and its bits", () => {
    assertEquals(parseBitsFor("model.layers.*.mlp.up_proj=4"), { pattern: "model.layers.*.mlp.up_proj", bits: 4 });
    for (const text of ["model=5", "=4", "model", "model=4x", ""]) {
      const message = `Cannot use --bits-for: received ${text}, expected PATTERN=BITS with 2, 3, 4, 8 bits`;
      assertThrows(() => parseBitsFor(text), RangeError, message);
    }
  });

  it("names linears by parts, any part and one of several; the last pattern that names one counts", () => {
    const named = (...texts: string[]) => Object.fromEntries(bitsByModule(linears, texts.map(parseBitsFor)));
    assertEquals(named("model.layers.(0|2).mlp.(up_proj|down_proj)=4"), {
      "model.layers.0.mlp.up_proj": 4,
      "model.layers.0.mlp.down_proj": 4,
      "model.layers.2.mlp.up_proj": 4,
      "model.layers.2.mlp.down_proj": 4,
    });
    const all = named("model.layers.*.*.*=3", "model.layers.1.self_attn.*=8");
    assertEquals([Object.keys(all).length, all["model.layers.1.self_attn.v_proj"]], [12, 8]);
    assertEquals(all["model.layers.1.mlp.up_proj"], 3);
    const message =
      'Cannot give 4 bits to "model.layers.*": no linear has such a name, expected one like model.layers.0';
    assertThrows(() => named("model.layers.*=4"), Error, message);
  });

  for (const method of METHODS.filter(({ uses }) => uses.includes("bitsFor"))) {
    it(`${method.name} gives each linear its bits, and the others theirs`, async () => {
      using context = Context.open({ threads: 1 });
      const settings = { bits: 2, group: 32, rank: 4, epochs: 1, iterations: 1 } as const;
      const shape = { hiddenSize: 64, intermediateSize: 96, heads: 2, kvHeads: 1 };
      const { job } = testJob(context, settings, { shape, samples: 2, length: 16 });
      const [, , v, , gate, , down] = blockLinears(job.block);
      const bitsFor = new Map([v!, gate!, down!].map(({ name }, i) => [name, ([4, 8, 3] as const)[i]!]));
      const made = await method.quantizeBlock({ ...job, bitsFor });
      const bits = [...made.values()].map(({ weights }) => (weights.family === "dense" ? 16 : weights.bits));
      assertEquals(bits, [2, 2, 4, 2, 8, 2, 3]);
    });
  }
});
