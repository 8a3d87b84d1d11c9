import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { primed } from "./primed.ts";

async function* items(pauseMs: number, failure?: Error): AsyncGenerator<number, void, void> {
  await new Promise((resolve) => setTimeout(resolve, pauseMs));
  if (failure) throw failure;
  yield* [1, 2, 3];
}

describe("primed", () => {
  it("yields every item, however late the first one is", async () => {
    assertEquals(await Array.fromAsync(await primed(items(0), 1000)), [1, 2, 3]);
    assertEquals(await Array.fromAsync(await primed(items(20), 1)), [1, 2, 3]);
  });

  it("throws an early error at once and a late one when it is asked for items", async () => {
    await assertRejects(() => primed(items(0, new Error("early")), 1000), Error, "early");
    const late = await primed(items(20, new Error("late")), 1);
    await assertRejects(() => Array.fromAsync(late), Error, "late");
  });

  it("ends its source when it is left", async () => {
    const source = items(0);
    const started = await primed(source, 1000);
    await started.next();
    await started.return();
    assertEquals((await source.next()).done, true);
  });
});
