/** What --dry-run says about memory. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../../ffi/mod.ts";
import type { MethodSettings } from "../method.ts";
import { METHODS, methodNamed } from "../registry.ts";
import { streamBytes } from "../streams.ts";
import { testJob } from "./test_job.ts";

const SETTINGS: readonly Partial<MethodSettings>[] = [
  { rank: 16, augLoss: true },
  { rank: 16, augLoss: false },
  { rank: 8, dora: true, augLoss: true },
  { rank: 0, bits: 4, group: 128 },
];

/** Device memory that a method takes at most on the test's block, in truth and as it says. */
async function memory(name: string, settings: Partial<MethodSettings>): Promise<{ taken: number; said: number }> {
  const method = methodNamed(name);
  using context = Context.open({ threads: 2 });
  const { job } = testJob(context, { ...settings, epochs: 1, iterations: 1 }, { samples: 3, length: 64 });
  const before = context.memory();
  // What is held is at its peak now, so that anything more raises it.
  using _filler = context.alloc(before.peakBytes - before.allocatedBytes);
  await method.quantizeBlock(job);
  const after = context.memory();
  assertEquals(after.allocatedBytes, before.peakBytes, "something was not given back");
  const taken = after.peakBytes - before.peakBytes;
  const widths = method.scratchWidths?.(job.config, job.settings) ?? [];
  const { samples, length } = job.calibration!.inputs;
  const streams = widths.map((hidden) => streamBytes({ samples, length, hidden }, false));
  const said = method.workingBytes(job.config, job.settings, length) + streams.reduce((sum, bytes) => sum + bytes, 0);
  return { taken, said };
}

describe("the memory that methods say they take", () => {
  for (const { name } of METHODS) {
    for (const settings of SETTINGS) {
      it(`${name} with ${JSON.stringify(settings)}`, async () => {
        // fine may go down to groups of 32, which take most.
        const { taken, said } = await memory(name, name === "fine" ? { ...settings, group: 32 } : settings);
        const error = taken === said ? 0 : said / taken - 1;
        assert(Math.abs(error) < 0.02, `it took ${taken} bytes and said ${said}`);
      });
    }
  }
});
