import { truncateSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { resemblance } from "../adapters/resemblance.ts";
import { openAdapter } from "../formats/adapter.ts";
import { writeAdapter } from "../formats/adapter_writer.ts";
import { halvesToFloats } from "../formats/floats.ts";
import { assertFormatError, inFolder } from "../formats/test_files.ts";
import { checkTargets, imageBytes, readImage } from "./lora_image.ts";

const [OUT, IN] = [3, 5];
const SHAPES = new Map([["model.layers.0.self_attn.q_proj", { outFeatures: OUT, inFeatures: IN }]]);

/** One linear's LoRA with the values of `a` and `b` in turn, and a magnitude where `dora`. */
async function write(dir: string, rank: number, values: (i: number) => number, dora = false) {
  const tensor = (shape: readonly number[]) => {
    const floats = Float32Array.from({ length: shape.reduce((x, y) => x * y) }, (_, i) => values(i));
    return { dtype: "F32" as const, shape, data: new Uint8Array(floats.buffer) };
  };
  const [module] = SHAPES.keys() as Iterable<string>;
  const magnitude = dora ? tensor([OUT]) : null;
  const lora = { module: module!, rank, alpha: 2 * rank, a: tensor([rank, IN]), b: tensor([OUT, rank]), magnitude };
  await writeAdapter(dir, { loras: [lora], modules: [module!] });
  return openAdapter(dir);
}

describe("an adapter's image", () => {
  it("holds A as it is, then B transposed, then room for DoRA's factors, each at a multiple of 64 bytes", () =>
    inFolder(async (dir) => {
      const adapter = await write(dir, 2, (i) => i / 4, true);
      const { data, targets, dora } = readImage(adapter, "f16", null);
      const [{ aOffset, bOffset, factorsOffset, scale, rank }] = targets as [(typeof targets)[number]];
      assertEquals([aOffset, bOffset, factorsOffset, scale, rank], [0, 64, 128, 2, 2]);
      assertEquals([data.length, imageBytes(adapter, "f16"), imageBytes(adapter, "f32")], [192, 192, 192]);
      const halves = (offset: number, count: number) => [
        ...halvesToFloats(new Uint16Array(data.buffer, offset, count)),
      ];
      assertEquals(
        halves(aOffset, 10),
        Array.from({ length: 10 }, (_, i) => i / 4),
      );
      assertEquals(halves(bOffset, 6), [0, 0.5, 1, 0.25, 0.75, 1.25]);
      assertEquals([...dora[0]!.loras[0]!.magnitude!], [0, 0.25, 0.5]);
    }));

  it("is refused for a value that is no number, or none in the type it is held in", () =>
    inFolder(async (dir) => {
      const huge = await write(dir, 2, (i) => (i === 3 ? 65520 : 1));
      assertFormatError(() => readImage(huge, "f16", null), "lora_A", "bad value at index 3", "65520");
      assertEquals(readImage(huge, "f32", null).targets.length, 1);
      const none = await write(dir, 2, (i) => (i === 1 ? Number.NaN : 1));
      assertFormatError(() => readImage(none, "f32", null), "bad value at index 1", "NaN");
    }));

  it("is refused when its file is cut off between opening and reading", () =>
    inFolder(async (dir) => {
      const adapter = await write(dir, 2, () => 1);
      truncateSync(join(dir, "adapter_model.safetensors"), 300);
      assertFormatError(() => readImage(adapter, "f32", null), "truncated");
    }));

  it("needs linears that the model has, of its shapes and of no higher rank than there is room for", () =>
    inFolder(async (dir) => {
      const adapter = await write(dir, 2, () => 1);
      checkTargets(adapter, SHAPES, 2);
      const fails = (message: string, shapes: typeof SHAPES, maxRank: number) =>
        assertThrows(() => checkTargets(adapter, shapes, maxRank), Error, message);
      fails("--max-adapter-rank", SHAPES, 1);
      fails("which this model does not have", new Map(), 2);
      const other = new Map([...SHAPES.keys()].map((name) => [name, { outFeatures: OUT, inFeatures: IN + 1 }]));
      fails("expected A [2,6] and B [3,2]", other, 2);
    }));
});

describe("the resemblance of two adapters", () => {
  it("is the cosine of their A matrices, and 0 where those cannot be compared", () =>
    inFolder((dir) =>
      inFolder(async (second) => {
        const wave = (i: number) => Math.sin(3 * i + 1);
        const one = await write(dir, 2, wave);
        assertEquals(resemblance(one, await write(second, 2, wave)), 1);
        const trained = resemblance(one, await write(second, 2, (i) => wave(i) + 0.2 * Math.cos(7 * i)));
        assert(trained > 0.9 && trained < 1, `${trained}`);
        const unrelated = resemblance(one, await write(second, 2, (i) => Math.cos(i * i)));
        assert(Math.abs(unrelated) < 0.6, `${unrelated}`);
        assertEquals(resemblance(one, await write(second, 3, wave)), 0);
        assertEquals(resemblance(one, await write(second, 2, () => 0)), 0);
      }),
    ));
});
