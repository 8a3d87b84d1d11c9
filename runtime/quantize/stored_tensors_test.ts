import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint, readTensor } from "../formats/mod.ts";
import { writeSafetensors } from "../formats/safetensors_writer.ts";
import { inFolder } from "../formats/test_files.ts";
import { nfTable, quantizeLut, roundToHalf } from "./lut.ts";
import type { AffineWeights, StoredWeights } from "./method.ts";
import { readStored } from "./read_stored.ts";
import { quantizationConfig, type StorageSettings, storageSettings, storedTensors } from "./stored_tensors.ts";

const SHAPE = [20, 256] as const;
const COUNT = SHAPE[0] * SHAPE[1];
const at = (layer: number, part = "mlp.up_proj") => `model.layers.${layer}.${part}`;

const wave = (count: number, frequency: number) =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * frequency));

function affine(bits: AffineWeights["bits"], zero: AffineWeights["zero"]): AffineWeights {
  const [group, levels] = [64, 2 ** bits] as const;
  const groups = COUNT / group;
  const zeros =
    zero === "float"
      ? roundToHalf(wave(groups, 0.3))
      : Float32Array.from({ length: groups }, (_, i) => (i * 5) % levels);
  const q = Uint8Array.from({ length: COUNT }, (_, i) => (i * 7 + (i >> 4)) % levels);
  return { family: "affine", bits, group, q, scales: roundToHalf(wave(groups, 0.7)), zero, zeros };
}

const lut = (bits: 2 | 3 | 4, double: boolean) => quantizeLut(wave(COUNT, 1.3), SHAPE, 32, nfTable(bits), double);
const dense: StoredWeights = { family: "dense", values: roundToHalf(wave(COUNT, 0.9)) };

describe("storedTensors", () => {
  const integers = ([2, 3, 4, 8] as const).map((bits) => affine(bits, "integer"));
  const kinds: StoredWeights[] = [
    ...([2, 3, 4, 8] as const).flatMap((bits) => [affine(bits, "integer"), affine(bits, "float")]),
    ...([2, 3, 4] as const).flatMap((bits) => [lut(bits, false), lut(bits, true)]),
    dense,
  ];

  for (const [what, made, method] of [
    ["all families", kinds, "apiq"],
    ["all bits", integers, "gptq"],
  ] as const) {
    it(`are read back as what they were made from, with ${what} in one model`, () =>
      inFolder(async (dir) => {
        const modules = new Map(made.map((weights, i) => [at(i), weights]));
        const settings = new Map([...modules].map(([name, weights]) => [name, storageSettings(weights)]));
        const config = { quantization_config: quantizationConfig(settings) };
        assertEquals(config.quantization_config?.quant_method, method);
        writeFileSync(join(dir, "config.json"), JSON.stringify(config));
        const tensors = [...modules].flatMap(([name, weights]) => storedTensors(name, weights, SHAPE));
        await writeSafetensors(join(dir, "model.safetensors"), tensors);
        const checkpoint = openCheckpoint(dir);
        for (const [name, weights] of modules) {
          assertEquals(readStored(checkpoint.linear(name, ...SHAPE)), weights, name);
        }
      }));
  }

  it("hold a bias in float16 where that is exact, else in float32", () =>
    inFolder(async (dir) => {
      writeFileSync(join(dir, "config.json"), "{}");
      const [exact, inexact] = [Float32Array.of(1.5, -2), Float32Array.of(1.5, 0.1)];
      const weights: StoredWeights = { family: "dense", values: new Float32Array(2 * 32) };
      await writeSafetensors(join(dir, "model.safetensors"), [
        ...storedTensors("a", weights, [2, 32], exact),
        ...storedTensors("b", weights, [2, 32], inexact),
      ]);
      const checkpoint = openCheckpoint(dir);
      const bias = (name: string) => checkpoint.linear(name, 2, 32).bias!;
      assertEquals([bias("a").dtype, readTensor(bias("a"))], ["F16", exact]);
      assertEquals([bias("b").dtype, readTensor(bias("b"))], ["F32", inexact]);
    }));

  it("packs a block of 3.5 M weights in well below a second", () => {
    const [out, into] = [1536, 2304];
    const q = Uint8Array.from({ length: out * into }, (_, i) => i & 3);
    const groups = (out * into) / 64;
    const [scales, zeros] = [new Float32Array(groups), new Float32Array(groups)];
    const begin = performance.now();
    const weights = { family: "affine", bits: 2, group: 64, q, scales, zero: "integer", zeros } as const;
    for (const { data } of storedTensors("m", weights, [out, into])) assert(typeof data !== "function" || [...data()]);
    assert(performance.now() - begin < 1000);
  });
});

describe("quantizationConfig", () => {
  const two: StorageSettings = { family: "affine", bits: 2, group: 64, zero: "integer" };
  const eight: StorageSettings = { family: "affine", bits: 8, group: 64, zero: "integer" };
  const kept: StorageSettings = { family: "dense" };
  const config = (...entries: [string, StorageSettings][]) => quantizationConfig(new Map(entries));

  it("is null where nothing is packed", () => {
    assertEquals(config([at(0), kept], ["model.embed_tokens", kept]), null);
  });

  it("is GPTQ's where its layout can say it, and names what is left dense for other readers", () => {
    assertEquals(config([at(0), two], [at(1), two], ["model.embed_tokens", kept]), {
      quant_method: "gptq",
      checkpoint_format: "gptq_v2",
      bits: 2,
      group_size: 64,
      desc_act: false,
      sym: false,
      lm_head: false,
    });
    const dynamic = config([at(0), two], [at(1), kept])?.dynamic as object;
    const [pattern] = Object.keys(dynamic);
    assert(pattern!.startsWith("-:"));
    const regex = new RegExp(pattern!.slice(2));
    assert(regex.test(at(1)) && !regex.test(at(0)) && !regex.test(at(11)));
  });

  it("is GPTQ's for bits and groups that differ, the most frequent ones standing for the model", () => {
    const others = [[at(2), eight] as const, [at(11), { ...two, group: 32 }] as const, [at(12), kept] as const];
    const made = config([at(0), two], [at(1), two], ...(others as [string, StorageSettings][]));
    assertEquals([made?.quant_method, made?.bits, made?.group_size], ["gptq", 2, 64]);
    const name = (layer: number): string => `^model\\.layers\\.${layer}\\.mlp\\.up_proj$`;
    assertEquals(made?.dynamic, {
      [`+:${name(2)}`]: { bits: 8, group_size: 64 },
      [`+:${name(11)}`]: { bits: 2, group_size: 32 },
      [`-:${name(12)}`]: {},
    });
  });

  it("is apiq's for packed tables, float zeros and tables of entries", () => {
    assertEquals(config([at(0), two], [at(1), two], ["model.embed_tokens", eight]), {
      quant_method: "apiq",
      version: 1,
      family: "affine",
      bits: 2,
      group_size: 64,
      zero: "integer",
      modules: { "model.embed_tokens": { family: "affine", bits: 8, group_size: 64, zero: "integer" } },
    });
    const float: StorageSettings = { ...two, zero: "float" };
    assertEquals(config([at(0), float], [at(1), kept])?.quant_method, "apiq");
    assertEquals(config([at(0), { family: "lut", bits: 4, group: 64, doubleQuantization: true }]), {
      quant_method: "apiq",
      version: 1,
      family: "lut",
      bits: 4,
      group_size: 64,
      double_quantization: true,
      modules: {},
    });
  });
});
