import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { checkBinding, openAdapter } from "./adapter.ts";
import { readTensor } from "./read.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_writer.ts";
import { assertFormatError, inFolder } from "./test_files.ts";

const golden = (name: string): ReturnType<typeof openAdapter> => openAdapter(sharedPath(`golden/peft/${name}`));
const CONFIG = { peft_type: "LORA", r: 4, lora_alpha: 8, target_modules: ["q_proj", "down_proj"] };
const PREFIX = "base_model.model.model.layers.0";

const matrix = (name: string, rows: number, cols: number): TensorToWrite => ({
  name: `${PREFIX}.${name}.weight`,
  dtype: "F32",
  shape: [rows, cols],
  data: new Uint8Array(rows * cols * 4),
});
const PAIR = [matrix("self_attn.q_proj.lora_A", 4, 8), matrix("self_attn.q_proj.lora_B", 6, 4)];

async function makeAdapter(dir: string, config: object, tensors: TensorToWrite[]): Promise<void> {
  writeFileSync(join(dir, "adapter_config.json"), JSON.stringify({ ...CONFIG, ...config }));
  await writeSafetensors(join(dir, "adapter_model.safetensors"), tensors);
}

const refuses = (config: object, tensors: TensorToWrite[], ...parts: string[]): Promise<void> =>
  inFolder(async (dir) => {
    await makeAdapter(dir, config, tensors);
    assertFormatError(() => openAdapter(dir), dir, ...parts);
  });

describe("openAdapter", () => {
  itShared("reads adapters on all linears and on some", () => {
    const all = golden("all_r8");
    assertEquals([all.targets.size, all.rank, all.alpha, all.rsLora], [14, 8, 16, false]);
    const { a, b, rank, scale } = all.targets.get("model.layers.1.mlp.down_proj")!;
    assertEquals([a.shape, b.shape, rank, scale], [[8, 192], [128, 8], 8, 2]);
    assertEquals(readTensor(a).length, 8 * 192);
    const some = golden("qv_r4");
    assertEquals(
      [...some.targets.keys()].map((name) => name.split(".").at(-1)),
      ["q_proj", "v_proj", "q_proj", "v_proj"],
    );
  });

  itShared("scales by alpha / sqrt(rank) for rsLoRA", () => {
    for (const { scale } of golden("rslora_r16").targets.values()) assertEquals(scale, 4);
  });

  itShared("gives single modules the rank and alpha of their pattern", () => {
    for (const [module, { rank, scale }] of golden("rank_pattern").targets) {
      assertEquals([rank, scale], module.endsWith("down_proj") ? [12, 0.5] : [4, 2]);
    }
  });

  it("reads what the adapter is bound to, and refuses it for another model or where it is damaged", () =>
    inFolder(async (dir) => {
      await makeAdapter(dir, {}, PAIR);
      assertEquals(openAdapter(dir).binding, null);
      const base = "0123456789abcdef".repeat(4);
      const bind = (binding: object): void => writeFileSync(join(dir, "apiq.json"), JSON.stringify(binding));
      bind({ base, replaces: true });
      const adapter = openAdapter(dir);
      assertEquals(adapter.binding, { base, replaces: true });
      checkBinding(adapter, base);
      const other = base.replaceAll("0", "1");
      assertFormatError(() => checkBinding(adapter, other), dir, "trained on another model", base, other);
      bind({ base: "abc", replaces: true });
      assertFormatError(() => openAdapter(dir), dir, "bad base", "received abc");
      bind({ base });
      assertFormatError(() => openAdapter(dir), dir, "bad replaces", "received none, expected true or false");
    }));

  itShared("reads DoRA's magnitudes", () => {
    for (const { b, magnitude } of golden("dora_r8").targets.values()) assertEquals(magnitude?.shape, [b.shape[0]]);
  });

  it("refuses magnitudes without use_dora, and use_dora without magnitudes that fit", async () => {
    const magnitude = (size: number): TensorToWrite => ({
      name: `${PREFIX}.self_attn.q_proj.lora_magnitude_vector`,
      dtype: "F32",
      shape: [size],
      data: new Uint8Array(size * 4),
    });
    await refuses({}, [...PAIR, magnitude(6)], "not a LoRA matrix");
    await refuses({ use_dora: true }, PAIR, "q_proj has no lora_magnitude_vector, which use_dora needs");
    await refuses({ use_dora: true }, [...PAIR, magnitude(5)], "does not match lora_B, received [5], expected [6]");
  });

  it("accepts names with the adapter's own name in them", () =>
    inFolder(async (dir) => {
      const named = PAIR.map((tensor) => ({ ...tensor, name: tensor.name.replace(".weight", ".default.weight") }));
      await makeAdapter(dir, {}, named);
      assertEquals([...openAdapter(dir).targets.keys()], ["model.layers.0.self_attn.q_proj"]);
      await makeAdapter(dir, {}, [...PAIR, named[0]!]);
      assertFormatError(() => openAdapter(dir), "has it twice");
    }));

  it("refuses settings that would change the result", async () => {
    await refuses({ peft_type: "IA3" }, PAIR, "unsupported peft_type, received IA3, expected LORA");
    await refuses({ bias: "lora_only" }, PAIR, "received lora_only, expected none");
    await refuses({ modules_to_save: ["lm_head"] }, PAIR, "modules_to_save is not supported");
    await refuses({ fan_in_fan_out: true }, PAIR, "fan_in_fan_out is not supported");
    await refuses({ init_lora_weights: "pissa" }, PAIR, "changed the base weights");
    await refuses({ r: 0 }, PAIR, "bad r, received 0, expected a positive integer");
    await refuses({ lora_alpha: "8" }, PAIR, "bad lora_alpha");
  });

  it("refuses tensors that do not fit together", async () => {
    const [a, b] = PAIR as [TensorToWrite, TensorToWrite];
    await refuses({}, [a], "model.layers.0.self_attn.q_proj has no lora_B");
    await refuses({}, [b], "has no lora_A");
    await refuses({}, [], "holds no tensors");
    await refuses({}, [matrix("self_attn.q_proj.lora_A", 5, 8), b], "received [5,8], expected [4, in]");
    await refuses({}, [a, matrix("self_attn.q_proj.lora_B", 6, 5)], "received [6,5], expected [out, 4]");
    await refuses({}, [...PAIR, matrix("self_attn.q_proj.lora_magnitude_vector", 6, 1)], "not a LoRA matrix");
    await refuses({}, [{ ...a, dtype: "I32" }, b], "received I32");
    await refuses({ target_modules: ["v_proj"] }, PAIR, "target_modules does not name");
  });

  it("says why a pickle is not opened", () =>
    inFolder((dir) => {
      assertFormatError(() => openAdapter(dir), "adapter_config.json", "does not exist");
      writeFileSync(join(dir, "adapter_config.json"), JSON.stringify(CONFIG));
      assertFormatError(() => openAdapter(dir), "adapter_model.safetensors", "does not exist");
      writeFileSync(join(dir, "adapter_model.bin"), "");
      assertFormatError(() => openAdapter(dir), "a pickle runs code");
    }));
});
