import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { LoraSpace } from "./lora_space.ts";

describe("LoraSpace", () => {
  it("gives pieces that begin on multiples of 64, and says when none is left", () => {
    const space = new LoraSpace(256 + 63);
    assertEquals([space.total, space.take(1), space.take(65), space.used], [256, 0, 64, 192]);
    assertEquals([space.take(65), space.take(64), space.take(1)], [undefined, 192, undefined]);
  });

  it("takes the first gap that is large enough and joins neighbours that are given back", () => {
    const space = new LoraSpace(640);
    const [a, b, c, d] = [128, 64, 192, 64].map((bytes) => space.take(bytes)!);
    space.give(a!, 128);
    space.give(c!, 192);
    assertEquals([space.take(192), space.take(64)], [c, a]);
    space.give(c!, 192);
    space.give(a!, 64);
    space.give(b!, 64);
    assertEquals(space.take(384), 0, "a, b and c are one gap");
    space.give(d!, 64);
    assertEquals([space.take(256), space.used], [384, 640]);
  });

  it("never gives a byte twice, and has all of them in the end", () => {
    const space = new LoraSpace(1 << 16);
    const held = new Map<number, number>();
    let state = 7;
    const next = (below: number) => {
      state = (state * 48271) % 2147483647;
      return state % below;
    };
    for (let i = 0; i < 5000; i++) {
      const bytes = 1 + next(4000);
      const at = next(3) === 0 ? undefined : space.take(bytes);
      if (at !== undefined) {
        assert(at % 64 === 0 && at + bytes <= space.total);
        for (const [other, size] of held) assert(at + bytes <= other || other + size <= at, "two pieces overlap");
        held.set(at, bytes);
      } else if (held.size > 0) {
        const given = [...held.keys()][next(held.size)]!;
        space.give(given, held.get(given)!);
        held.delete(given);
      }
    }
    for (const [at, bytes] of held) space.give(at, bytes);
    assertEquals([space.used, space.take(space.total)], [0, 0]);
  });
});
