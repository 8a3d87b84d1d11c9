import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { MAX_PREFILL_ROWS } from "./engine_shape.ts";
import { PrefillPace } from "./prefill_pace.ts";
import { GREEDY } from "./protocol.ts";
import type { ScheduledRows } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";

function sequence(prompt: number): Sequence {
  const request = { id: "s", prompt: new Array(prompt).fill(1), maxTokens: 10, stopTokens: [], sampling: GREEDY };
  return new Sequence(request, -1);
}

/** A machine on which a step takes `fixed` seconds and each prompt row `perRow` more. */
function machine(pace: PrefillPace, fixed: number, perRow: number) {
  const stream = sequence(1);
  stream.append(5);
  const step = (decoding: boolean, prompt: boolean): { rows: number; seconds: number } => {
    const rows = prompt ? pace.prefillRows(decoding ? 1 : 0) : 0;
    const scheduled: ScheduledRows[] = [];
    if (decoding) scheduled.push({ sequence: stream, count: 1 });
    if (prompt) scheduled.push({ sequence: sequence(1000), count: rows });
    const seconds = fixed + perRow * rows;
    pace.learn(scheduled, seconds);
    return { rows, seconds };
  };
  return step;
}

describe("PrefillPace", () => {
  it("lets a stream keep at least half its pace while a prompt enters", () => {
    for (const perRow of [0.0002, 0.001, 0.004]) {
      const step = machine(new PrefillPace(), 0.01, perRow);
      for (let i = 0; i < 20; i++) step(true, false);
      const mixed = Array.from({ length: 60 }, () => step(true, true));
      const settled = mixed.slice(10);
      const slowest = Math.max(...settled.map(({ seconds }) => seconds));
      assert(slowest <= 0.02 * 1.05, `a row takes ${perRow} s: a step took ${slowest} s`);
      const mean = settled.reduce((sum, { rows }) => sum + rows, 0) / settled.length;
      const possible = Math.min(MAX_PREFILL_ROWS, 0.01 / perRow);
      assert(mean > possible * 0.4, `a row takes ${perRow} s: only ${mean} rows of ${possible} were used`);
    }
  });

  it("always moves a prompt on, however slow the machine is", () => {
    const step = machine(new PrefillPace(), 0.01, 5);
    for (let i = 0; i < 20; i++) step(true, false);
    for (let i = 0; i < 50; i++) step(true, true);
    assertEquals(step(true, true).rows, 1);
  });

  it("gives prompts a fifth of a second beside streams that nobody watches, however long those take", () => {
    for (const fixed of [0.01, 0.5]) {
      const step = machine(new PrefillPace(false), fixed, 0.004);
      // Streams may end and begin so fast that no step is without a prompt.
      const first = Array.from({ length: 30 }, () => step(true, true));
      if (fixed < 0.2)
        assert(
          first.slice(10).every(({ rows }) => rows > 20),
          "prompts enter slowly",
        );
      for (let i = 0; i < 20; i++) step(true, false);
      const mixed = Array.from({ length: 40 }, () => step(true, true)).slice(10);
      assert(mixed.every(({ seconds }) => seconds - fixed < 0.25));
      assert(mixed.every(({ rows }) => rows > 20));
    }
  });

  it("gives prompts alone steps of a fifth of a second, and no more rows than a pass can take", () => {
    const slow = machine(new PrefillPace(), 0.01, 0.004);
    const steps = Array.from({ length: 40 }, () => slow(false, true)).slice(10);
    assert(steps.every(({ seconds }) => seconds < 0.25));
    assert(steps.some(({ rows }) => rows > 30));
    const fast = machine(new PrefillPace(), 0.001, 0.00001);
    for (let i = 0; i < 30; i++) fast(false, true);
    assertEquals(fast(false, true).rows, MAX_PREFILL_ROWS);
  });
});
