import { assert, assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { decoderHidden, decoderLogits } from "../../runtime/models/decoder.ts";
import { TrainingOps, trainingArenaBytes } from "../../runtime/ops/training.ts";
import { Arena } from "../../runtime/tensor.ts";
import { itShared, sharedPath } from "../shared.ts";
import { goldenModel, largestDifference, readFloats, readIds } from "./load.ts";

const FAMILIES = ["llama", "llama3", "mistral", "qwen2", "qwen3"];

describe("training ops against transformers in float32", () => {
  for (const family of FAMILIES) {
    const folder = sharedPath(`golden/tiny/${family}`);
    const expected = `${folder}/expected.safetensors`;

    for (const record of [false, true]) {
      itShared(`${family}: logits are within 1e-4 ${record ? "while recording" : "forward only"}`, () => {
        using loaded = goldenModel(folder);
        const { context, config, weights } = loaded;
        const ids = readIds(expected, "input_ids");
        const want = readFloats(expected, "logits").values;
        const [sequences, length] = ids.shape;
        const rows = sequences * length;
        const block = trainingArenaBytes(config, sequences, length, record);
        const outside = rows * (2 * config.hiddenSize + config.vocabSize) * 4;
        const arena = new Arena(context.alloc((record ? config.layers : 1) * block + outside));
        const tokens = context.alloc(rows * 4);
        tokens.upload(Int32Array.from(ids.values));
        const { inverseFrequencies } = weights;
        using ops = new TrainingOps({
          context,
          config,
          arena,
          sequences,
          length,
          inverseFrequencies,
          ids: tokens.at(0),
        });
        ops.begin(record);
        const logits = decoderLogits(ops, weights, decoderHidden(ops, weights));
        assertEquals(logits.shape, [rows, config.vocabSize]);
        const got = logits.ref.buffer.download(new Float32Array(want.length), logits.ref.offset);
        const difference = largestDifference(got, want);
        assert(difference < 1e-4, `logits differ by ${difference}`);
      });
    }
  }
});
