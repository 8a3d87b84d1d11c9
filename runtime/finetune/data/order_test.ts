import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Example } from "./example.ts";
import { epochOrder, splitValidation } from "./order.ts";

const examples = (count: number): Example[] =>
  Array.from({ length: count }, (_, i) => ({ ids: Int32Array.of(i), wanted: Uint8Array.of(0), where: `a:${i}` }));

const numbers = (list: readonly Example[]): number[] => list.map(({ ids }) => ids[0]!);

describe("epochOrder", () => {
  it("holds every number once", () => {
    for (const count of [0, 1, 2, 17, 1000]) {
      const sorted = epochOrder(count, 3, 1).toSorted();
      assertEquals(
        [...sorted],
        Array.from({ length: count }, (_, i) => i),
      );
    }
  });

  it("is a function of seed and epoch, the same on every runtime", () => {
    assertEquals([...epochOrder(10, 0, 0)], [3, 9, 5, 4, 1, 8, 6, 0, 2, 7]);
    assertEquals([...epochOrder(10, 0, 1)], [9, 3, 8, 2, 0, 6, 5, 1, 4, 7]);
    assertEquals(epochOrder(100, 5, 2), epochOrder(100, 5, 2));
    assertNotEquals(epochOrder(100, 5, 2), epochOrder(100, 5, 3));
    assertNotEquals(epochOrder(100, 5, 2), epochOrder(100, 6, 2));
    assertNotEquals(epochOrder(100, 0, 1), epochOrder(100, 1, 0));
  });

  it("puts each number into each place equally often", () => {
    const count = 5;
    const epochs = 5000;
    const often = Array.from({ length: count * count }, () => 0);
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const [place, number] of epochOrder(count, 1, epoch).entries()) often[place * count + number]!++;
    }
    const expected = epochs / count;
    // Six standard deviations of a binomial count.
    const bound = 6 * Math.sqrt(expected * (1 - 1 / count));
    for (const times of often) assert(Math.abs(times - expected) < bound, `${times} times, expected ${expected}`);
  });
});

describe("splitValidation", () => {
  it("parts the examples, each part in the order of the file", () => {
    const { training, validation } = splitValidation(examples(50), { count: 7 }, 4);
    assertEquals([training.length, validation.length], [43, 7]);
    for (const part of [numbers(training), numbers(validation)]) {
      assertEquals(
        part,
        part.toSorted((a, b) => a - b),
      );
    }
    assertEquals(
      [...numbers(training), ...numbers(validation)].sort((a, b) => a - b),
      numbers(examples(50)),
    );
  });

  it("chooses by the seed alone", () => {
    const chosen = (seed: number): number[] => numbers(splitValidation(examples(50), { count: 5 }, seed).validation);
    assertEquals(chosen(1), chosen(1));
    assertNotEquals(chosen(1), chosen(2));
    assertEquals(chosen(0), [0, 22, 37, 38, 47]);
  });

  it("takes a fraction, at least one example, and none for 0", () => {
    const held = (fraction: number): number => splitValidation(examples(50), { fraction }, 0).validation.length;
    assertEquals([held(0), held(0.001), held(0.1), held(0.5)], [0, 1, 5, 25]);
  });

  it("refuses to hold out everything, or no whole number", () => {
    for (const amount of [{ count: 5 }, { count: 9 }, { count: -1 }, { count: 1.5 }, { fraction: 1 }]) {
      assertThrows(() => splitValidation(examples(5), amount, 0), Error, "received 5 examples");
    }
  });
});
