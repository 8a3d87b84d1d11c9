import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { randomWords } from "../../quantize/random.ts";
import type { Example } from "./example.ts";
import { fillRatio, PACKINGS, packExamples, packSequence, planPacking } from "./packing.ts";

const LENGTH = 64;

/** Examples of 1 to `longest` tokens, about half of them wanted; every token of every example has an id of its own. */
function randomExamples(count: number, longest: number, seed: number): Example[] {
  const next = randomWords(seed);
  const below = (limit: number): number => (next() >>> 0) % limit;
  let id = 1;
  return Array.from({ length: count }, (_, i) => {
    const length = 1 + below(longest);
    return {
      ids: Int32Array.from({ length }, () => id++),
      wanted: Uint8Array.from({ length }, (_, place) => (place > 0 && below(2) === 1 ? 1 : 0)),
      where: `set.jsonl:${i + 1}`,
    };
  });
}

/** First-fit decreasing as its definition says it. */
function firstFitDecreasing(examples: readonly Example[]): number[][] {
  const size = (i: number): number => examples[i]!.ids.length;
  const plan: number[][] = [];
  for (const index of examples.map((_, i) => i).sort((a, b) => size(b) - size(a) || a - b)) {
    const fits = plan.find((members) => members.reduce((sum, i) => sum + size(i), 0) + size(index) <= LENGTH);
    if (fits) fits.push(index);
    else plan.push([index]);
  }
  return plan.map((members) => members.sort((a, b) => a - b));
}

const sets = [1, 2, 3, 4, 5].map((seed) => randomExamples(150, [LENGTH, 40, 16, 5, 33][seed - 1]!, seed));

describe("packExamples", () => {
  it("asks for every wanted token exactly once, behind the token before it", () => {
    for (const examples of sets) {
      const before = new Map<number, number>();
      for (const { ids, wanted } of examples) {
        for (let i = 1; i < ids.length; i++) if (wanted[i]) before.set(ids[i]!, ids[i - 1]!);
      }
      for (const packing of PACKINGS) {
        const left = new Map(before);
        for (const { ids, targets, tokens } of packExamples(examples, LENGTH, packing)) {
          let asked = 0;
          for (const [i, target] of targets.entries()) {
            if (target < 0) continue;
            asked++;
            assertEquals(left.get(target), ids[i], `${packing}, token ${target}`);
            left.delete(target);
          }
          assertEquals(tokens, asked);
        }
        assertEquals(left.size, 0, packing);
      }
    }
  });

  it("lets no token see another example, and counts positions from its own first token", () => {
    for (const examples of sets) {
      const own = new Map<number, Example>();
      for (const example of examples) for (const id of example.ids) own.set(id, example);
      for (const packing of PACKINGS) {
        let seen = 0;
        for (const { ids, positions, rowStart } of packExamples(examples, LENGTH, packing)) {
          for (let i = 0; i < LENGTH; i++) {
            const example = own.get(ids[i]!);
            // Padding, which no example sees, sees itself alone.
            if (example === undefined) {
              assertEquals([rowStart[i], positions[i]], [i, 0]);
              continue;
            }
            seen++;
            assertEquals(positions[i], i - rowStart[i]!);
            assertEquals(ids.slice(rowStart[i], i + 1), example.ids.slice(0, positions[i]! + 1));
          }
        }
        assertEquals(seen, own.size);
      }
    }
  });

  it("gives an example the same numbers wherever it stands", () => {
    const [short, long] = randomExamples(2, 30, 7);
    const alone = packSequence([short!], [0], LENGTH);
    const behind = packSequence([long!, short!], [0, 1], LENGTH);
    const from = long!.ids.length;
    const count = short!.ids.length;
    assertEquals(behind.targets.slice(from, from + count), alone.targets.slice(0, count));
    assertEquals(behind.positions.slice(from, from + count), alone.positions.slice(0, count));
    assertEquals(
      behind.rowStart.slice(from, from + count),
      alone.rowStart.slice(0, count).map((start) => start + from),
    );
  });
});

describe("planPacking", () => {
  it("is first-fit decreasing when it is dense", () => {
    for (const examples of sets) assertEquals(planPacking(examples, LENGTH, "dense"), firstFitDecreasing(examples));
  });

  it("keeps the order of the file, or leaves each alone, where asked", () => {
    for (const examples of sets) {
      const inOrder = planPacking(examples, LENGTH, "in-order");
      assertEquals(
        inOrder.flat(),
        examples.map((_, i) => i),
      );
      for (const [i, members] of inOrder.slice(1).entries()) {
        const room = LENGTH - inOrder[i]!.reduce((sum, member) => sum + examples[member]!.ids.length, 0);
        assert(examples[members[0]!]!.ids.length > room, "a sequence ended although the next example fitted");
      }
      assertEquals(
        planPacking(examples, LENGTH, "single"),
        examples.map((_, i) => [i]),
      );
    }
  });

  it("fills sequences to 98 % with examples of all lengths, and to 99.9 % with short ones", () => {
    const fill = (longest: number): number => {
      const examples = randomExamples(2000, longest, 11);
      return fillRatio(examples, planPacking(examples, LENGTH), LENGTH);
    };
    assert(fill(LENGTH) > 0.98, `${fill(LENGTH)}`);
    assert(fill(16) > 0.999, `${fill(16)}`);
  });

  it("depends on lengths alone", () => {
    const [examples] = sets;
    const others = examples!.map(({ ids, wanted, where }) => ({ ids: ids.map((id) => id + 1000), wanted, where }));
    assertEquals(planPacking(others, LENGTH), planPacking(examples!, LENGTH));
  });

  it("takes no examples, and one that fills a sequence", () => {
    assertEquals(planPacking([], LENGTH), []);
    const full = { ids: new Int32Array(LENGTH), wanted: new Uint8Array(LENGTH), where: "a:1" };
    assertEquals(planPacking([full, full], LENGTH), [[0], [1]]);
  });

  it("names an example that no sequence has room for", () => {
    const long = { ids: new Int32Array(LENGTH + 1), wanted: new Uint8Array(LENGTH + 1), where: "a.jsonl:9" };
    for (const packing of PACKINGS) {
      assertThrows(
        () => planPacking([long], LENGTH, packing),
        Error,
        "Cannot pack a.jsonl:9: received 65 tokens, expected at most 64",
      );
    }
  });
});
