import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import type { Linear } from "../models/weights.ts";
import { dequantizeAffine } from "../quantize/affine.ts";
import type { AffineWeights } from "../quantize/method.ts";
import { uniform } from "../quantize/random.ts";
import { firstWeights } from "./first_weights.ts";
import { TrainedWeights } from "./trained_weights.ts";

const [OUT, IN, GROUP] = [8, 64, 32] as const;

const LINEAR = {
  name: "model.layers.0.mlp.up_proj",
  weight: { outFeatures: OUT, inFeatures: IN, bits: 2, group: GROUP },
} as Linear;

/** Random integers under the given scales. */
function packedWeights(scales: readonly number[]): AffineWeights {
  const groups = (OUT * IN) / GROUP;
  const random = uniform(OUT * IN, 1, 5);
  return {
    family: "affine",
    bits: 2,
    group: GROUP,
    q: Uint8Array.from(random, (value) => Math.floor(2 * (value + 1)) & 3),
    scales: Float32Array.from({ length: groups }, (_, g) => scales[g % scales.length]!),
    zero: "integer",
    zeros: Float32Array.from({ length: groups }, (_, g) => g % 4),
  };
}

/** What is stored when training begins, and what it computes with. */
function begin(weights: AffineWeights) {
  using context = Context.open({ threads: 1 });
  const settings = { learningRate: 0, weightDecay: 0 };
  const first = () => firstWeights(LINEAR, weights, null, null);
  using trained = new TrainedWeights(context, [LINEAR], first, { weights: settings, grid: settings });
  trained.prepare();
  const { buffer, offset } = trained.trainable(LINEAR)!.weight!;
  return { computed: buffer.download(new Float32Array(OUT * IN), offset), stored: trained.linears.get(LINEAR)!.read() };
}

describe("firstWeights", () => {
  it("round to the packed integers, scales and zeros", () => {
    const weights = packedWeights([0.25, 0.0999755859375, 3.0517578125e-5]);
    const { computed, stored } = begin(weights);
    assertEquals(computed, dequantizeAffine(weights));
    assertEquals(stored, weights);
  });

  it("turn groups with negative scales around, which changes no weight", () => {
    const weights = packedWeights([-0.25, 0.125]);
    const { computed, stored } = begin(weights);
    // A zero may have another sign.
    assertEquals(
      computed,
      dequantizeAffine(weights).map((value) => value + 0),
    );
    assert(stored.scales.every((scale) => scale > 0));
    assertEquals(stored.zeros[0], 3 - weights.zeros[0]!);
  });

  it("are zeros where a scale is 0", () => {
    const { computed } = begin(packedWeights([0, 0.125]));
    assert(computed.subarray(0, GROUP).every((value) => value === 0));
    assert(computed.subarray(GROUP, 2 * GROUP).some((value) => value !== 0));
  });

  it("refuse a scale that is no number, with the name of the linear", () => {
    const message = "Cannot train model.layers.0.mlp.up_proj: received NaN as a scale, expected a finite number";
    assertThrows(() => firstWeights(LINEAR, packedWeights([Number.NaN]), null, null), Error, message);
  });
});
