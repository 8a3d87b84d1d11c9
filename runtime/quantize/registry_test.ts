import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import type { MethodOption, MethodSettings, QuantizationMethod } from "./method.ts";
import { testJob } from "./methods/test_job.ts";
import { bitsOfName, METHODS, refuseIgnored } from "./registry.ts";
import { DEFAULTS, methodSettings, OPTION_FLAGS, PAPER } from "./settings.ts";

const OPTIONS = Object.keys(OPTION_FLAGS) as MethodOption[];

/** The names of the methods that heed an option. */
const users = (option: MethodOption): string[] => METHODS.filter((m) => m.uses.includes(option)).map((m) => m.name);

describe("options of methods", () => {
  it("every setting has a flag, and every option a method that heeds it", () => {
    assertEquals([...OPTIONS, "seed"].sort(), [...Object.keys(DEFAULTS), "init", "bitsFor"].sort());
    for (const option of OPTIONS) assertEquals(users(option).length > 0, true, option);
  });

  it("every method heeds bits and group size; LoRA's rank goes with methods that make LoRA", () => {
    const all = METHODS.map(({ name }) => name);
    assertEquals([users("bits"), users("group")], [all, all]);
    assertEquals(users("rank"), ["apiq-bw", "apiq-lw", "block-ap", "loftq", "cloq"]);
  });

  it("an option that the method would ignore is refused with the methods that heed it", () => {
    for (const method of METHODS) {
      for (const option of OPTIONS) {
        if (method.uses.includes(option)) refuseIgnored(method, [option]);
        else {
          const message = `Cannot use ${OPTION_FLAGS[option]} with ${method.name}: it is for ${users(option).join(", ")}`;
          assertThrows(() => refuseIgnored(method, ["bits", option]), RangeError, message);
        }
      }
    }
  });

  it("a method's own defaults count unless a flag or --preset paper says otherwise", () => {
    const method = METHODS.find(({ name }) => name === "apiq-bw")!;
    const rates = ({ loraLearningRate, clippingLearningRate }: MethodSettings) => [
      loraLearningRate,
      clippingLearningRate,
    ];
    const own = rates(methodSettings("default", {}, method));
    assertEquals(own, [method.defaults?.loraLearningRate, method.defaults?.clippingLearningRate]);
    assertNotEquals(own, rates(PAPER));
    assertEquals(rates(methodSettings("default", { loraLearningRate: 1e-4 }, method)), [1e-4, own[1]]);
    assertEquals(methodSettings("paper", {}, method), PAPER);
  });

  it("a number that is none, or endless, is refused with its flag", () => {
    const method = METHODS.find(({ name }) => name === "apiq-bw")!;
    for (const option of ["rank", "alpha", "epochs", "loraLearningRate", "weightDecay"] as const) {
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -1]) {
        const expected = `Cannot use ${OPTION_FLAGS[option]}: received ${value}, expected`;
        assertThrows(() => methodSettings("default", { [option]: value }, method), RangeError, expected);
      }
    }
  });

  /** Settings under which every other one matters, and a change of each. */
  const BASE: Partial<MethodSettings> = { group: 64, bits: 3, rank: 4, epochs: 2, iterations: 2, base: "nf" };
  const CHANGES: Readonly<Partial<MethodSettings>>[] = [
    { bits: 2 },
    { group: 32 },
    { rank: 8 },
    { alpha: 24 },
    { dora: true },
    { epochs: 3 },
    { loraLearningRate: 1e-3 },
    { clippingLearningRate: 1e-2 },
    { weightLearningRate: 1e-3 },
    { schedule: "cosine" },
    { weightDecay: 0.5 },
    { augLoss: false },
    { damping: 0.1 },
    { iterations: 1 },
    { base: "affine" },
    { doubleQuantization: true },
  ];
  const resultOf = async ({ quantizeBlock }: QuantizationMethod, settings: Partial<MethodSettings>) => {
    using context = Context.open({ threads: 2 });
    const shape = { hiddenSize: 64, intermediateSize: 64, heads: 2, kvHeads: 1 };
    const { job } = testJob(context, { ...BASE, ...settings }, { shape, samples: 2, length: 24, noise: 0.1 });
    return await quantizeBlock(job);
  };

  for (const method of METHODS) {
    it(`${method.name}: what it heeds changes its result, and nothing else does`, async () => {
      const before = await resultOf(method, {});
      for (const change of CHANGES) {
        const [option] = Object.keys(change) as MethodOption[];
        // nf4 has 4 bits whatever is set.
        if (option === "bits" && bitsOfName(method.name) !== undefined) continue;
        const after = await resultOf(method, change);
        if (method.uses.includes(option)) assertNotEquals(after, before, option);
        else assertEquals(after, before, option);
      }
    });
  }
});
