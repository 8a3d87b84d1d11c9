import { assert } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { itShared, sharedPath } from "../shared.ts";
import { goldenModel, largestDifference, logitsOf, readFloats, readIds } from "./load.ts";

const ADAPTERS = ["all_r8", "qv_r4", "rslora_r16", "rank_pattern", "dora_r8"];
const base = sharedPath("golden/peft/base");

function check(folder: string, adapters: Record<string, string>): void {
  using loaded = goldenModel(base, { adapters });
  const slot = loaded.adapterSlots.get("adapter") ?? -1;
  const ids = readIds(`${folder}/expected.safetensors`, "input_ids").values;
  const want = readFloats(`${folder}/expected.safetensors`, "logits").values;
  const difference = largestDifference(logitsOf(loaded, ids, slot), want);
  assert(difference < 1e-4, `logits differ by ${difference}`);
}

describe("adapters against peft in float32", () => {
  itShared("the base alone gives peft's logits", () => check(base, {}));

  for (const name of ADAPTERS) {
    const folder = sharedPath(`golden/peft/${name}`);
    itShared(`${name}: logits are within 1e-4`, () => check(folder, { adapter: folder }));
  }

  itShared("with adapters loaded, a request for the base still gives the base's logits", () => {
    using loaded = goldenModel(base, {
      adapters: { a: sharedPath("golden/peft/all_r8"), b: sharedPath("golden/peft/qv_r4") },
    });
    const ids = readIds(`${base}/expected.safetensors`, "input_ids").values;
    const want = readFloats(`${base}/expected.safetensors`, "logits").values;
    assert(largestDifference(logitsOf(loaded, ids), want) < 1e-4);
  });
});
