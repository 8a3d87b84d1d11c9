import { assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Histogram, simple } from "../../metrics/exposition.ts";
import { buckets, parseMetrics, quantile, total } from "./metrics.ts";

describe("metrics as the page reads them", () => {
  it("are the ones that the server writes", () => {
    const labels = { model_name: 'a "quoted"\nname\\' };
    const text = simple("vllm:x_total", "counter", "Help, {with} braces.", [
      [labels, 3],
      [{ ...labels, reason: "stop" }, 0.5],
    ]);
    const metrics = parseMetrics(text);
    assertEquals(total(metrics, "vllm:x_total"), 3.5);
    assertEquals(metrics.get("vllm:x_total")?.[0]?.labels, labels);
    assertEquals(total(metrics, "vllm:y_total"), undefined);
    assertEquals(total(parseMetrics("nothing NaN\n# a comment 7\n"), "nothing"), undefined);
  });

  it("give the quantiles of what came between two readings", () => {
    const histogram = new Histogram([0.1, 0.2, 0.4]);
    const read = () => buckets(parseMetrics(histogram.text("t", "Times.", { model_name: "m" })), "t");
    histogram.observe(5, 10);
    const before = read();
    assertEquals(quantile(0.5, before, read()), undefined);
    histogram.observe(0.15, 8);
    histogram.observe(0.3, 2);
    assertAlmostEquals(quantile(0.5, before, read()) ?? 0, 0.1 + (0.1 * 5) / 8);
    assertAlmostEquals(quantile(0.95, before, read()) ?? 0, 0.2 + (0.2 * 1.5) / 2);
    // Beyond the last bound there is only that bound to tell of; and an engine that began again has counted down.
    assertEquals(quantile(0.5, [], before), 0.4);
    assertEquals(quantile(0.5, read(), before), undefined);
  });
});
