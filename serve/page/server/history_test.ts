import { assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parseMetrics } from "../api/metrics.ts";
import { ServerHistory } from "./history.ts";

function reading(generated: number, running = 1): ReturnType<typeof parseMetrics> {
  return parseMetrics(`vllm:generation_tokens_total{} ${generated}\nvllm:num_requests_running{} ${running}\n`);
}

describe("the server's last minutes", () => {
  it("turn counters into rates, and have none where the engine began again or no time went by", () => {
    const history = new ServerHistory(9);
    history.add(reading(100), 0);
    history.add(reading(150), 2000);
    history.add(reading(7), 4000);
    history.add(reading(9), 4000);
    history.add(reading(29), 6000);
    assertEquals(
      history.samples.map(({ generatedPerSecond }) => generatedPerSecond),
      [undefined, 25, undefined, undefined, 10],
    );
    assertEquals(history.samples.at(-1)?.waiting, undefined);
  });

  it("keep so many readings and no more", () => {
    const history = new ServerHistory(3);
    for (let time = 1; time <= 5; time++) history.add(reading(0, time), time * 1000);
    assertEquals(
      history.samples.map(({ running }) => running),
      [3, 4, 5],
    );
    assertAlmostEquals(history.samples[0]?.generatedPerSecond ?? -1, 0);
  });
});
