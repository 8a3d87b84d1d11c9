import { assert, assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { Engine } from "../../runtime/engine/engine.ts";
import { GREEDY } from "../../runtime/engine/protocol.ts";
import { itShared, sharedPath } from "../shared.ts";
import { goldenModel, largestDifference, logitsOf, readFloats, readIds } from "./load.ts";

/** The greedy continuations start from so many tokens of the first text. */
const GREEDY_PROMPT = 16;
const FAMILIES = ["llama", "llama3", "mistral", "qwen2", "qwen3"];

describe("families against transformers in float32", () => {
  for (const family of FAMILIES) {
    const folder = sharedPath(`golden/tiny/${family}`);
    const expected = `${folder}/expected.safetensors`;

    itShared(`${family}: logits are within 1e-4`, () => {
      using loaded = goldenModel(folder);
      const ids = readIds(expected, "input_ids");
      const logits = readFloats(expected, "logits");
      const [batch, length] = ids.shape;
      for (let b = 0; b < batch; b++) {
        const got = logitsOf(loaded, ids.values.slice(b * length, (b + 1) * length));
        const want = logits.values.subarray(b * got.length, (b + 1) * got.length);
        const difference = largestDifference(got, want);
        assert(difference < 1e-4, `text ${b}: logits differ by ${difference}`);
      }
    });

    itShared(`${family}: greedy tokens are identical`, () => {
      using engine = new Engine(goldenModel(folder));
      const ids = readIds(expected, "input_ids");
      const want = readIds(expected, "greedy").values;
      engine.add({
        id: "greedy",
        prompt: ids.values.slice(0, GREEDY_PROMPT),
        maxTokens: want.length,
        stopTokens: [],
        sampling: GREEDY,
      });
      const got: number[] = [];
      while (engine.hasWork()) for (const output of engine.step()) got.push(...output.tokens);
      assertEquals(got, want);
    });
  }
});
