import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { type AffineSource, openCheckpoint } from "./checkpoint.ts";
import type { StoredDtype } from "./dtype.ts";
import { makeFingerprint } from "./fingerprint.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_writer.ts";
import { assertFormatError, inFolder, writeRawSafetensors } from "./test_files.ts";

const OUT = 40;
const IN = 128;
const MODULE = "model.layers.0.mlp.up_proj";
const GPTQ = { quant_method: "gptq", bits: 4, group_size: 64, desc_act: false };
const APIQ = { quant_method: "apiq", version: 1, bits: 2, group_size: 32, zero: "float" };

const SIZES: Partial<Record<StoredDtype, number>> = { I32: 4, F16: 2, F32: 4 };
const tensor = (name: string, dtype: StoredDtype, shape: number[], data?: Uint8Array): TensorToWrite => ({
  name,
  dtype,
  shape,
  data: data ?? new Uint8Array(shape.reduce((a, b) => a * b, SIZES[dtype]!)),
});

const order = (indexOf: (i: number) => number): Uint8Array =>
  new Uint8Array(Int32Array.from({ length: IN }, (_, i) => indexOf(i)).buffer);

/** A 4-bit GPTQ linear with groups of 64, with single tensors replaced. */
function gptqTensors(replaced: TensorToWrite[] = []): TensorToWrite[] {
  const tensors = [
    tensor(`${MODULE}.qweight`, "I32", [IN / 8, OUT]),
    tensor(`${MODULE}.qzeros`, "I32", [2, OUT / 8]),
    tensor(`${MODULE}.scales`, "F16", [2, OUT]),
    tensor(
      `${MODULE}.g_idx`,
      "I32",
      [IN],
      order((i) => Math.floor(i / 64)),
    ),
  ];
  const names = new Set(replaced.map(({ name }) => name));
  return [...tensors.filter(({ name }) => !names.has(name)), ...replaced];
}

async function makeModel(dir: string, config: unknown, tensors: TensorToWrite[]): Promise<void> {
  writeFileSync(join(dir, "config.json"), JSON.stringify(config));
  await writeSafetensors(join(dir, "model.safetensors"), tensors);
}

/** Opening such a model and asking for its linear must fail with all of `parts`. */
const refuses = (quantization: unknown, tensors: TensorToWrite[], ...parts: string[]): Promise<void> =>
  inFolder(async (dir) => {
    await makeModel(dir, { quantization_config: quantization }, tensors);
    assertFormatError(() => openCheckpoint(dir).linear(MODULE, OUT, IN), dir, ...parts);
  });

describe("openCheckpoint", () => {
  itShared("opens dense models and checks their tensors", () => {
    const checkpoint = openCheckpoint(sharedPath("golden/tiny/qwen2"));
    const source = checkpoint.linear("model.layers.0.self_attn.k_proj", 64, 128);
    assert(source.kind === "dense" && source.bias !== undefined);
    assertEquals(checkpoint.embedding("model.embed_tokens", 320, 128).kind, "dense");
    assertEquals(checkpoint.quantization, undefined);
    assertFormatError(
      () => checkpoint.linear("model.layers.0.self_attn.k_proj", 64, 96),
      "received [64,128], expected [64,96]",
    );
    assertFormatError(
      () => checkpoint.linear("model.layers.9.mlp", 1, 1),
      'tensor "model.layers.9.mlp.weight"',
      "missing",
    );
    assertFormatError(() => checkpoint.tensor("model.norm.weight", { dtype: "F16" }), "received F32, expected F16");
  });

  it("opens shards through the index", () =>
    inFolder(async (dir) => {
      writeFileSync(join(dir, "config.json"), "{}");
      const shard = "model-00002-of-00002.safetensors";
      await writeSafetensors(join(dir, shard), [tensor("a.weight", "F32", [2, 3])]);
      const index = join(dir, "model.safetensors.index.json");
      const write = (weightMap: unknown): void => writeFileSync(index, JSON.stringify({ weight_map: weightMap }));
      write({ "a.weight": shard });
      assertEquals(openCheckpoint(dir).tensor("a.weight").path, join(dir, shard));
      write({ "a.weight": "model-00001-of-00002.safetensors" });
      assertFormatError(() => openCheckpoint(dir), index, 'tensor "a.weight"', "does not exist");
      write({ "b.weight": shard });
      assertFormatError(() => openCheckpoint(dir), 'tensor "b.weight"', "does not hold it");
      for (const outside of ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", 7]) {
        write({ "a.weight": outside });
        assertFormatError(() => openCheckpoint(dir), "not the name of a .safetensors file in this folder");
      }
      write([]);
      assertFormatError(() => openCheckpoint(dir), "no weight_map, received array");
    }));

  it("says what is missing", () =>
    inFolder((dir) => {
      assertFormatError(() => openCheckpoint(dir), "config.json", "does not exist");
      writeFileSync(join(dir, "config.json"), "{}");
      assertFormatError(() => openCheckpoint(dir), "neither model.safetensors nor model.safetensors.index.json");
    }));

  it("opens GPTQ linears of both versions", () =>
    inFolder(async (dir) => {
      await makeModel(dir, { quantization_config: GPTQ }, [...gptqTensors(), tensor(`${MODULE}.bias`, "F16", [OUT])]);
      const source = openCheckpoint(dir).linear(MODULE, OUT, IN) as AffineSource;
      const { bits, group, zero, format } = source;
      assertEquals({ bits, group, zero, format }, { bits: 4, group: 64, zero: "integer", format: "gptq" });
      assertEquals(source.bias?.name, `${MODULE}.bias`);
      await makeModel(dir, { quantization_config: { ...GPTQ, checkpoint_format: "gptq_v2" } }, gptqTensors());
      assertEquals((openCheckpoint(dir).linear(MODULE, OUT, IN) as AffineSource).format, "gptq_v2");
    }));

  it("reads AutoGPTQ's own settings file", () =>
    inFolder(async (dir) => {
      await makeModel(dir, {}, gptqTensors());
      assertFormatError(() => openCheckpoint(dir).linear(MODULE, OUT, IN), "need a quantization_config");
      writeFileSync(join(dir, "quantize_config.json"), JSON.stringify({ bits: 4, group_size: 64, desc_act: false }));
      assertEquals(openCheckpoint(dir).linear(MODULE, OUT, IN).kind, "affine");
    }));

  it("opens apiq's packed matrices with their own settings", () =>
    inFolder(async (dir) => {
      const tensors = [
        tensor("model.embed_tokens.qweight", "I32", [IN / 4, OUT]),
        tensor("model.embed_tokens.qzeros", "I32", [IN / 32, OUT / 4]),
        tensor("model.embed_tokens.scales", "F16", [IN / 32, OUT]),
        tensor(`${MODULE}.qweight`, "I32", [(IN * 3) / 32, OUT]),
        tensor(`${MODULE}.mins`, "F16", [IN / 32, OUT]),
        tensor(`${MODULE}.scales`, "F16", [IN / 32, OUT]),
      ];
      const modules = { "model.layers.*.mlp.up_proj": { bits: 3 }, "model.embed_tokens": { bits: 8, zero: "integer" } };
      await makeModel(dir, { quantization_config: { ...APIQ, modules } }, tensors);
      const checkpoint = openCheckpoint(dir);
      const table = checkpoint.embedding("model.embed_tokens", OUT, IN) as AffineSource;
      assertEquals([table.bits, table.zero, table.format, table.zeros.dtype], [8, "integer", "gptq_v2", "I32"]);
      const linear = checkpoint.linear(MODULE, OUT, IN) as AffineSource;
      assertEquals([linear.bits, linear.zero, linear.zeros.name], [3, "float", `${MODULE}.mins`]);
    }));

  it("refuses act-order", async () => {
    await refuses({ ...GPTQ, desc_act: true }, gptqTensors(), "act-order", "desc_act is true");
    const shuffled = tensor(
      `${MODULE}.g_idx`,
      "I32",
      [IN],
      order((i) => (i === 70 ? 0 : Math.floor(i / 64))),
    );
    await refuses(GPTQ, gptqTensors([shuffled]), `tensor "${MODULE}.g_idx"`, "act-order", "input 70 is in group 0");
  });

  it("refuses settings it cannot run", async () => {
    await refuses({ ...GPTQ, group_size: -1 }, [], "one group for a whole row", "received -1, expected 32, 64, 128");
    await refuses({ ...GPTQ, bits: 5 }, [], "unsupported bits, received 5, expected 2, 3, 4, 8");
    await refuses({ ...GPTQ, checkpoint_format: "marlin" }, [], "checkpoint_format, received marlin");
    await refuses({ quant_method: "awq" }, [], 'quant_method, received awq, expected "gptq" or "apiq"');
    const dynamic = (entries: unknown) => ({ ...GPTQ, dynamic: entries });
    await refuses(dynamic([]), [], "a dynamic that is no object, received array, expected object");
    await refuses(dynamic({ ".*up.*": 3 }), [], "settings of .*up.* in dynamic that are no object, received number");
    await refuses(dynamic({ "+:.*up.*": { bits: 5 } }), [], "unsupported bits, received 5, expected 2, 3, 4, 8");
    await refuses(dynamic({ up: { group_size: -1 } }), [], "one group for a whole row");
    await refuses(dynamic({ up: { desc_act: true } }), [], "desc_act of up in dynamic is true");
    await refuses(dynamic({ "(a+)+": { bits: 2 } }), [], "too complicated a pattern in dynamic, received (a+)+");
    await refuses(
      dynamic({ "(a": { bits: 2 } }),
      [],
      "bad pattern in dynamic, received (a, expected a regular expression",
    );
    await refuses({ ...APIQ, version: 2 }, [], "version of the apiq format, received 2, expected 1");
    await refuses({ ...APIQ, zero: "none" }, [], "kind of zero");
    await refuses({ ...APIQ, modules: { a: { bits: 7 } } }, [], "unsupported bits, received 7");
    await refuses("gptq", [], "quantization_config is not an object");
  });

  it("refuses packed tensors of other shapes and dtypes", async () => {
    const wrong = (name: string, dtype: StoredDtype, shape: number[], ...parts: string[]): Promise<void> =>
      refuses(GPTQ, gptqTensors([tensor(`${MODULE}.${name}`, dtype, shape)]), `"${MODULE}.${name}"`, ...parts);
    await wrong("qweight", "I32", [IN / 16, OUT], "received [8,40], expected [16,40]");
    await wrong("qweight", "F32", [IN / 8, OUT], "received F32, expected I32");
    await wrong("qzeros", "I32", [2, OUT / 8 + 1], "received [2,6], expected [2,5]");
    await wrong("scales", "F16", [1, OUT], "received [1,40], expected [2,40]");
    await wrong("scales", "F32", [2, OUT], "received F32, expected F16");
    await wrong("g_idx", "I32", [IN + 1], "received [129], expected [128]");
    const both = [...gptqTensors(), tensor(`${MODULE}.weight`, "F16", [OUT, IN])];
    await refuses(GPTQ, both, "both .weight and .qweight");
    await refuses(GPTQ, gptqTensors().slice(1), `tensor "${MODULE}.weight"`, "missing");
    await refuses(
      GPTQ,
      gptqTensors().filter(({ name }) => !name.endsWith("scales")),
      `"${MODULE}.scales"`,
      "missing",
    );
  });

  it("refuses groups that do not divide the input", () =>
    inFolder(async (dir) => {
      await makeModel(dir, { quantization_config: GPTQ }, gptqTensors());
      assertFormatError(() => openCheckpoint(dir).linear(MODULE, OUT, 96), "received 64, expected a divisor of 96");
    }));

  it("opens the calibrated LoRA that belongs to the model", () =>
    inFolder(async (dir) => {
      await makeModel(dir, {}, []);
      assertEquals(openCheckpoint(dir).initAdapter, undefined);
      mkdirSync(join(dir, "apiq_init"));
      assertFormatError(() => openCheckpoint(dir), "apiq_init", "adapter_config.json");
    }));
});

describe("fingerprint", () => {
  it("is the stored one, or covers config, shapes and a sample of the data", () =>
    inFolder(async (dir) => {
      const fingerprint = async (config: object, fill: number, shape = [64, 64]): Promise<string> => {
        await makeModel(dir, config, [tensor("a", "F32", shape, new Uint8Array(64 * 64 * 4).fill(fill))]);
        return openCheckpoint(dir).fingerprint;
      };
      const first = await fingerprint({ hidden_size: 1, vocab_size: 2 }, 1);
      assertEquals(await fingerprint({ vocab_size: 2, hidden_size: 1 }, 1), first);
      assertNotEquals(await fingerprint({ hidden_size: 2, vocab_size: 2 }, 1), first);
      assertNotEquals(await fingerprint({ hidden_size: 1, vocab_size: 2 }, 3), first);
      assertNotEquals(await fingerprint({ hidden_size: 1, vocab_size: 2 }, 1, [32, 128]), first);
      const stored = makeFingerprint({ hidden_size: 1 }, [{ name: "a", sha256: "00" }]);
      assertEquals(await fingerprint({ apiq_fingerprint: stored }, 1), stored);
      assertEquals(makeFingerprint({ hidden_size: 1, apiq_fingerprint: "old" }, [{ name: "a", sha256: "00" }]), stored);
      writeFileSync(join(dir, "config.json"), '{"apiq_fingerprint": "x"}');
      assertFormatError(() => openCheckpoint(dir), "is no SHA-256, received x");
    }));

  it("does not depend on how the header is laid out", () =>
    inFolder((dir) => {
      const read = (header: string): string => {
        writeFileSync(join(dir, "config.json"), "{}");
        writeRawSafetensors(join(dir, "model.safetensors"), header, 4);
        return openCheckpoint(dir).fingerprint;
      };
      const json = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
      assertEquals(read(json), read(`${json}   `));
    }));
});
