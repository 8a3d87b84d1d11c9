import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Meter, type PullProgress } from "./meter.ts";

describe("Meter", () => {
  it("counts what this pull fetches, its speed over the last seconds, and what it waits for", () => {
    let now = 0;
    let last: PullProgress | undefined;
    const meter = new Meter(
      (progress) => {
        last = progress;
      },
      () => now,
    );
    meter.start(3000, [500, 0]);
    assertEquals(last, { done: 0, total: 2500, bytesPerSecond: 0, waiting: undefined });
    now = 1000;
    meter.update(0, 700);
    assertEquals([last?.done, last?.bytesPerSecond], [200, 200]);
    // The server did not continue the first file: all of it is to be fetched.
    meter.update(0, 0);
    assertEquals([last?.done, last?.total], [0, 3000]);
    meter.update(1, 1000);
    meter.wait(2000, "the hub answered 429");
    assertEquals(last?.waiting, "the hub answered 429");
    for (now = 2000; now <= 10_000; now += 500) meter.update(1, 1000 + now / 10);
    assertEquals([last?.bytesPerSecond, last?.waiting], [100, undefined]);
  });
});
