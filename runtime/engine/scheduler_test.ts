import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { BlockManager } from "./block_manager.ts";
import { GREEDY } from "./protocol.ts";
import { type ScheduledRows, Scheduler } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";

function sequence(id: string, prompt: number, maxTokens = 100): Sequence {
  const request = {
    id,
    prompt: Array.from({ length: prompt }, (_, i) => (id.charCodeAt(0) * 100 + i) % 251),
    maxTokens,
    stopTokens: [],
    sampling: GREEDY,
  };
  return new Sequence(request, -1);
}

/** Plays the model's part: everything scheduled is computed, and a finished prompt or a decoded row draws token 7. */
function advance(scheduler: Scheduler, rows: readonly ScheduledRows[]): void {
  scheduler.computed(rows);
  for (const { sequence } of rows) if (sequence.pending === 0) sequence.append(7);
}

function names(rows: readonly ScheduledRows[]): string[] {
  return rows.map(({ sequence, count }) => `${sequence.request.id}:${count}`);
}

describe("Scheduler", () => {
  it("splits a prompt into chunks of the given number of rows", () => {
    const scheduler = new Scheduler(new BlockManager(64, 16), 2);
    scheduler.add(sequence("a", 100));
    const seen: string[] = [];
    for (let step = 0; step < 4; step++) {
      const rows = scheduler.schedule(40);
      seen.push(...names(rows));
      advance(scheduler, rows);
    }
    assertEquals(seen, ["a:40", "a:40", "a:20", "a:1"]);
  });

  it("lets running sequences decode while a prompt enters", () => {
    const scheduler = new Scheduler(new BlockManager(64, 16), 2);
    scheduler.add(sequence("a", 4));
    advance(scheduler, scheduler.schedule(16));
    scheduler.add(sequence("b", 30));
    const first = scheduler.schedule(16);
    assertEquals(names(first), ["a:1", "b:16"]);
    advance(scheduler, first);
    assertEquals(names(scheduler.schedule(16)), ["a:1", "b:14"]);
  });

  it("admits no more sequences than there are seats, in order of arrival", () => {
    const scheduler = new Scheduler(new BlockManager(64, 16), 2);
    for (const id of ["a", "b", "c"]) scheduler.add(sequence(id, 4));
    const rows = scheduler.schedule(100);
    assertEquals(names(rows), ["a:4", "b:4"]);
    assertEquals([scheduler.running, scheduler.waiting], [2, 1]);
    advance(scheduler, rows);
    scheduler.remove(rows[0].sequence);
    assertEquals(names(scheduler.schedule(100)), ["b:1", "c:4"]);
  });

  it("sends the youngest back to wait when a decoding sequence needs its blocks, and computes again only what was overwritten", () => {
    const blocks = new BlockManager(4, 16);
    const scheduler = new Scheduler(blocks, 2);
    const old = sequence("old", 32);
    const young = sequence("young", 31);
    scheduler.add(old);
    scheduler.add(young);
    advance(scheduler, scheduler.schedule(100));
    assertEquals(blocks.used, 4);
    const rows = scheduler.schedule(100);
    assertEquals(names(rows), ["old:1"]);
    assertEquals([young.seat, young.computed, young.blocks.length], [-1, 0, 0]);
    advance(scheduler, rows);
    scheduler.remove(old);
    assertEquals(names(scheduler.schedule(100)), ["young:16"]);
    assertEquals([young.computed, young.admissions], [16, 2]);
  });

  it("does not let half-computed prompts wait for each other's blocks", () => {
    const scheduler = new Scheduler(new BlockManager(4, 16), 2);
    const first = sequence("a", 60, 4);
    const second = sequence("b", 60, 4);
    scheduler.add(first);
    advance(scheduler, scheduler.schedule(16));
    scheduler.add(second);
    advance(scheduler, scheduler.schedule(32));
    assertEquals([first.blocks.length, second.blocks.length, second.computed], [3, 0, 0]);
    const done: string[] = [];
    for (let step = 0; step < 40 && scheduler.running + scheduler.waiting > 0; step++) {
      const rows = scheduler.schedule(16);
      advance(scheduler, rows);
      for (const { sequence } of rows) {
        if (sequence.generated < 4) continue;
        done.push(sequence.request.id);
        scheduler.remove(sequence);
      }
    }
    assertEquals(done, ["a", "b"]);
  });

  it("frees the blocks and the seat of a removed sequence at once", () => {
    const blocks = new BlockManager(8, 16);
    const scheduler = new Scheduler(blocks, 1);
    const a = sequence("a", 40);
    scheduler.add(a);
    advance(scheduler, scheduler.schedule(100));
    assertEquals(blocks.used, 3);
    scheduler.remove(a);
    assertEquals([blocks.used, scheduler.running, a.seat], [0, 0, -1]);
  });
});
