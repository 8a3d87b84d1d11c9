import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { HubError, TransientFailure } from "./failure.ts";
import { retryAfterMs, withRetries } from "./retry.ts";

/** A policy that notes its pauses in place of waiting. */
function noting(pauses: number[], signal = new AbortController().signal) {
  return { signal, pause: async (ms: number) => void pauses.push(ms) };
}

describe("withRetries", () => {
  it("doubles its pauses and gives up with the last reason", async () => {
    const pauses: number[] = [];
    let calls = 0;
    const body = () => Promise.reject(new TransientFailure(`no ${++calls}`));
    await assertRejects(
      () => withRetries("do it", noting(pauses), body),
      HubError,
      "Cannot do it: no 6, after 6 attempts",
    );
    assertEquals(pauses.length, 5);
    pauses.forEach((ms, i) => {
      assert(Math.abs(ms / (1000 * 2 ** i) - 1) <= 0.25, `pause ${i} is ${ms} ms`);
    });
  });

  it("counts from the start after progress, and passes other errors on at once", async () => {
    let calls = 0;
    const result = await withRetries("do it", noting([]), async (progressed) => {
      progressed();
      if (++calls < 20) throw new TransientFailure("cut");
      return calls;
    });
    assertEquals(result, 20);
    const body = () => Promise.reject(new RangeError("ours"));
    await assertRejects(() => withRetries("do it", noting([]), body), RangeError, "ours");
  });

  it("ends when the signal does", async () => {
    const controller = new AbortController();
    const policy = { signal: controller.signal };
    const running = withRetries("do it", policy, () => Promise.reject(new TransientFailure("cut")));
    setTimeout(() => controller.abort(), 10);
    await assertRejects(() => running);
    await assertRejects(() => withRetries("do it", policy, () => Promise.resolve(1)));
  });
});

describe("retryAfterMs", () => {
  it("reads seconds and dates", () => {
    const now = Date.parse("2026-01-01T00:00:00Z");
    const cases: readonly (readonly [header: string | null, ms: number | undefined])[] = [
      ["12", 12_000],
      ["Thu, 01 Jan 2026 00:00:30 GMT", 30_000],
      ["Wed, 31 Dec 2025 00:00:00 GMT", 0],
      ["soon", undefined],
      [null, undefined],
    ];
    for (const [header, ms] of cases) assertEquals(retryAfterMs(header, now), ms);
  });
});
