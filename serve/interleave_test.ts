import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { interleave } from "./interleave.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("interleave", () => {
  it("yields every item with its source, in each source's order, and starts a group after its first has yielded", async () => {
    const log: string[] = [];
    async function* source(name: string, count: number) {
      for (let i = 0; i < count; i++) {
        log.push(`${name}${i}`);
        await pause(1);
        yield i;
      }
    }
    const sources = [source("a", 2), source("b", 3), source("c", 0), source("d", 1)];
    const items = await Array.fromAsync(interleave(sources, 2));
    const of = (index: number) => items.filter(([from]) => from === index).map(([, item]) => item);
    assertEquals([of(0), of(1), of(2), of(3)], [[0, 1], [0, 1, 2], [], [0]]);
    assertEquals(log[0], "a0");
    assertEquals(log.indexOf("b0") > 0, true);
  });

  it("asks a source for its next item only when the last one was taken", async () => {
    let asked = 0;
    async function* endless() {
      for (;;) yield asked++;
    }
    const items = interleave([endless(), endless()], 1);
    for (let i = 0; i < 4; i++) await items.next();
    assertEquals(asked <= 6, true);
  });

  it("throws what a source throws", async () => {
    async function* failing() {
      yield 1;
      throw new Error("no more");
    }
    await assertRejects(() => Array.fromAsync(interleave([failing()], 1)), Error, "no more");
  });
});
