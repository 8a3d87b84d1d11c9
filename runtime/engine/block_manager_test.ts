import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type BlockList, BlockManager } from "./block_manager.ts";

const list = (): BlockList => ({ blocks: [], contents: [] });
const text = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => first + i);

/** Computes `tokens` into a new list as a sequence would, and leaves it in use. */
function compute(manager: BlockManager, tokens: readonly number[], root = "base"): { list: BlockList; shared: number } {
  const made = list();
  const shared = manager.share(made, root, tokens);
  if (!manager.grow(made, tokens.length)) throw new Error("no room");
  manager.seal(made, root, tokens, tokens.length);
  return { list: made, shared };
}

describe("BlockManager", () => {
  it("gives out as many blocks as the tokens need, or none", () => {
    const manager = new BlockManager(4, 16);
    const a = list();
    assertEquals([manager.grow(a, 33), a.blocks.length, manager.used], [true, 3, 3]);
    const b = list();
    assertEquals([manager.grow(b, 17), b.blocks.length], [false, 0]);
    assertEquals([manager.grow(b, 16), manager.used], [true, 4]);
    manager.release(a);
    assertEquals([manager.used, a.blocks.length], [1, 0]);
  });

  it("shares full blocks of a beginning that was computed before, in use or not", () => {
    const manager = new BlockManager(16, 16);
    const first = compute(manager, text(40));
    const second = compute(manager, [...text(35), 99, 98, 97, 96, 95]);
    assertEquals([second.shared, second.list.blocks.slice(0, 2)], [32, first.list.blocks.slice(0, 2)]);
    assertEquals(manager.used, 4);
    manager.release(first.list);
    manager.release(second.list);
    assertEquals(manager.used, 0);
    assertEquals(compute(manager, text(40)).shared, 32);
  });

  it("never shares the last token, which has to be computed to draw the next", () => {
    const manager = new BlockManager(16, 16);
    compute(manager, text(32));
    assertEquals(compute(manager, text(32)).shared, 16);
    assertEquals(compute(manager, text(33)).shared, 32);
  });

  it("keeps roots apart: another adapter's keys and values are others", () => {
    const manager = new BlockManager(16, 16);
    compute(manager, text(40), "base");
    assertEquals(compute(manager, text(40), "adapter 1").shared, 0);
  });

  it("does not take a block for another with the same tokens after another beginning", () => {
    const manager = new BlockManager(16, 16);
    compute(manager, text(48));
    assertEquals(compute(manager, [...text(16, 500), ...text(32, 16)]).shared, 0);
  });

  it("gives up what was unused for longest, and the end of a text before its beginning", () => {
    const manager = new BlockManager(6, 16);
    manager.release(compute(manager, text(33)).list);
    manager.release(compute(manager, text(33, 1000)).list);
    const third = compute(manager, text(16, 2000));
    manager.release(third.list);
    const again = list();
    assertEquals(manager.share(again, "base", text(33, 1000)), 32);
    manager.release(again);
    const oldest = list();
    assertEquals(manager.share(oldest, "base", text(33)), 32);
    manager.release(oldest);
    manager.release(compute(manager, text(48, 3000)).list);
    const beginning = list();
    assertEquals(manager.share(beginning, "base", text(33, 1000)), 16);
  });

  it("seals a block once, and keeps a second copy of the same content private", () => {
    const manager = new BlockManager(8, 16);
    const tokens = text(20);
    const a = list();
    const b = list();
    for (const copy of [a, b]) manager.grow(copy, 20);
    for (const copy of [a, b]) manager.seal(copy, "base", tokens, 20);
    assertEquals(a.contents, b.contents);
    manager.release(b);
    const c = list();
    manager.share(c, "base", tokens);
    assertEquals(c.blocks, a.blocks.slice(0, 1));
  });
});
