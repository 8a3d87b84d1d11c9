import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint } from "./checkpoint.ts";
import { readDoubleScales } from "./double_scales.ts";
import type { StoredDtype } from "./dtype.ts";
import { halvesToFloats } from "./floats.ts";
import { type TensorToWrite, writeSafetensors } from "./safetensors_writer.ts";
import { assertFormatError, inFolder } from "./test_files.ts";

const OUT = 40;
const IN = 128;
const MODULE = "model.layers.0.mlp.up_proj";
const LUT = { quant_method: "apiq", version: 1, family: "lut", bits: 3, group_size: 64 };
const DOUBLE = { ...LUT, double_quantization: true };

const tensor = (name: string, dtype: StoredDtype, shape: number[], values: ArrayBufferView): TensorToWrite => ({
  name: `${MODULE}.${name}`,
  dtype,
  shape,
  data: new Uint8Array(values.buffer),
});

const qweight = tensor("qweight", "I32", [12, OUT], new Int32Array(12 * OUT));
const table = tensor("lut", "F32", [8], Float32Array.of(-4, -3, -2, -1, 0, 1, 2, 3));
const scales = tensor("scales", "F16", [2, OUT], new Uint16Array(2 * OUT).fill(0x3c00));
const codes = tensor(
  "scale_codes",
  "U8",
  [OUT, 2],
  new Uint8Array(2 * OUT).map((_, i) => i + 88),
);
const absmax = tensor("scale_absmax", "F32", [1], Float32Array.of(12.7));
const offset = tensor("scale_offset", "F32", [1], Float32Array.of(20));

async function makeModel(dir: string, quantization: unknown, tensors: TensorToWrite[]): Promise<void> {
  writeFileSync(join(dir, "config.json"), JSON.stringify({ quantization_config: quantization }));
  await writeSafetensors(join(dir, "model.safetensors"), tensors);
}

/** Opening such a model and asking for its linear must fail with all of `parts`. */
const refuses = (quantization: unknown, tensors: TensorToWrite[], ...parts: string[]): Promise<void> =>
  inFolder(async (dir) => {
    await makeModel(dir, quantization, tensors);
    assertFormatError(() => openCheckpoint(dir).linear(MODULE, OUT, IN), dir, ...parts);
  });

describe("a matrix of table entries on disk", () => {
  it("is opened with its table, in either form of scales", () =>
    inFolder(async (dir) => {
      await makeModel(dir, LUT, [qweight, table, scales]);
      const source = openCheckpoint(dir).linear(MODULE, OUT, IN);
      assert(source.kind === "lut");
      assertEquals([source.bits, source.group, [...source.table]], [3, 64, [-4, -3, -2, -1, 0, 1, 2, 3]]);
      assert("dtype" in source.scales && source.scales.dtype === "F16");
    }));

  it("may be doubly quantized: scales are (code - 128) / 127 * absmax + offset, transposed", () =>
    inFolder(async (dir) => {
      await makeModel(dir, DOUBLE, [qweight, table, codes, absmax, offset]);
      const source = openCheckpoint(dir).linear(MODULE, OUT, IN);
      assert(source.kind === "lut" && "codes" in source.scales);
      const read = halvesToFloats(readDoubleScales(source.scales));
      const expected = Float16Array.from({ length: 2 * OUT }, (_, i) => {
        const code = 88 + (i % OUT) * 2 + Math.floor(i / OUT);
        return ((code - 128) / 127) * Math.fround(12.7) + 20;
      });
      assertEquals([...read], [...expected]);
    }));

  it("may be one of a model's modules, beside affine ones", () =>
    inFolder(async (dir) => {
      const base = { quant_method: "apiq", version: 1, bits: 2, group_size: 64, zero: "integer" };
      await makeModel(dir, { ...base, modules: { [MODULE]: { family: "lut", bits: 3 } } }, [qweight, table, scales]);
      const checkpoint = openCheckpoint(dir);
      assertEquals(checkpoint.quantization?.base.kind, "affine");
      assertEquals(checkpoint.linear(MODULE, OUT, IN).kind, "lut");
    }));

  it("is refused where a part is missing or has another shape", async () => {
    await refuses(LUT, [qweight, scales], `tensor "${MODULE}.lut"`, "missing");
    await refuses(LUT, [qweight, table], `tensor "${MODULE}.scales"`, "missing");
    const small = tensor("lut", "F32", [4], new Float32Array(4));
    await refuses(LUT, [qweight, small, scales], "received [4], expected [8]");
    const half = tensor("lut", "F16", [8], new Uint16Array(8));
    await refuses(LUT, [qweight, half, scales], "received F16, expected F32");
    await refuses(DOUBLE, [qweight, table, scales], `tensor "${MODULE}.scale_codes"`, "missing");
    await refuses(DOUBLE, [qweight, table, codes, absmax], `tensor "${MODULE}.scale_offset"`, "missing");
    const blocks = tensor("scale_absmax", "F32", [2], new Float32Array(2));
    await refuses(DOUBLE, [qweight, table, codes, blocks, offset], "received [2], expected [1]");
    await refuses({ ...LUT, group_size: 32 }, [qweight, table, scales], "received [2,40], expected [4,40]");
  });

  it("is refused where a table or a scale is no finite number", async () => {
    const bad = tensor("lut", "F32", [8], new Float32Array(8).fill(Number.NaN, 3, 4));
    await refuses(LUT, [qweight, bad, scales], `tensor "${MODULE}.lut"`, "no finite number", "NaN");
    for (const [changed, text] of [
      [tensor("scale_absmax", "F32", [1], Float32Array.of(Number.POSITIVE_INFINITY)), "no finite number"],
      [tensor("scale_offset", "F32", [1], Float32Array.of(Number.NaN)), "no finite number"],
      [tensor("scale_offset", "F32", [1], Float32Array.of(7e4)), "does not fit float16"],
    ] as const) {
      await inFolder(async (dir) => {
        const good = [codes, absmax, offset].filter(({ name }) => name !== changed.name);
        await makeModel(dir, DOUBLE, [qweight, table, ...good, changed]);
        const source = openCheckpoint(dir).linear(MODULE, OUT, IN);
        assert(source.kind === "lut" && "codes" in source.scales);
        const stored = source.scales;
        assertFormatError(() => readDoubleScales(stored), text);
      });
    }
  });

  it("is refused where the settings are none", async () => {
    await refuses({ ...LUT, bits: 8 }, [], "unsupported bits", "received 8, expected 2, 3, 4");
    await refuses(
      { ...LUT, family: "codebook" },
      [],
      "unknown family",
      'received codebook, expected "affine" or "lut"',
    );
    await refuses({ ...LUT, double_quantization: 1 }, [], "unknown double_quantization");
    await refuses({ ...LUT, modules: { a: { family: "affine" } } }, [], "unknown kind of zero");
  });
});
