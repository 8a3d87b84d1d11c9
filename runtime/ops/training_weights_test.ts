import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { parseConfig } from "../models/config.ts";
import { randomDecoder } from "../models/random.ts";
import { sharedWeightBytes, TrainingWeights } from "./training_weights.ts";

/** A block whose MLP is larger than the shared buffer, and whose attention is not. */
const CONFIG = parseConfig(
  {
    model_type: "llama",
    hidden_size: 2048,
    intermediate_size: 9024,
    num_hidden_layers: 1,
    num_attention_heads: 32,
    vocab_size: 64,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
  },
  "the test",
);

describe("TrainingWeights", () => {
  it("gives large matrices in pieces of whole rows, in order, from a buffer of bounded size", () => {
    using context = Context.open({ threads: 2 });
    using model = randomDecoder(context, CONFIG, { bits: 2, group: 64, headBits: 8, seed: 3 });
    using weights = new TrainingWeights(context, CONFIG);
    const before = context.memory().allocatedBytes;
    const { q, gate, down } = model.weights.blocks[0]!;
    for (const [{ weight }, expected] of [
      [q, 1],
      [gate, 2],
      [down, 2],
    ] as const) {
      const { outFeatures, inFeatures } = weight;
      let [next, pieces] = [0, 0];
      weights.visit(weight, (piece, first, rows) => {
        assertEquals(first, next);
        next += rows;
        pieces++;
        // The last row of each piece, dequantised by itself.
        using row = context.alloc(inFeatures * 4);
        context.weightDequantize({ weight, y: row.at(0), firstRow: next - 1, nRows: 1 });
        const actual = piece.buffer.download(new Float32Array(inFeatures), piece.offset + (rows - 1) * inFeatures * 4);
        assertEquals(actual, row.download(new Float32Array(inFeatures)));
      });
      assertEquals([next, pieces], [outFeatures, expected]);
    }
    assertEquals(context.memory().allocatedBytes - before, sharedWeightBytes(CONFIG));
    assert(sharedWeightBytes(CONFIG) <= 64 * 2 ** 20);
  });
});
