import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { TextDelta } from "../../runtime/chat/generate.ts";
import { Histogram, simple } from "./exposition.ts";
import { RequestMetrics } from "./request_metrics.ts";

describe("Prometheus text", () => {
  it("escapes labels", () => {
    const text = simple("a_total", "counter", "Help.", [[{ name: 'x"\\\n' }, 2]]);
    assertEquals(text, '# HELP a_total Help.\n# TYPE a_total counter\na_total{name="x\\"\\\\\\n"} 2\n');
  });

  it("counts into cumulative buckets whose bounds belong to them", () => {
    const histogram = new Histogram([0.5, 1]);
    for (const value of [0.5, 0.75, 7]) histogram.observe(value);
    histogram.observe(0.25, 2);
    assertEquals(
      histogram.text("h", "Help.", {}),
      '# HELP h Help.\n# TYPE h histogram\nh_bucket{le="0.5"} 3\nh_bucket{le="1"} 4\nh_bucket{le="+Inf"} 5\nh_sum 8.75\nh_count 5\n',
    );
  });
});

describe("RequestMetrics", () => {
  async function* deltas(items: readonly TextDelta[], failure?: Error): AsyncGenerator<TextDelta, void, void> {
    yield* items;
    if (failure) throw failure;
  }
  const end: TextDelta = { text: "", tokens: 2, finish: "length" };

  it("counts answers by how they ended, and tokens of those that were complete", async () => {
    const metrics = new RequestMetrics();
    await Array.fromAsync(metrics.measured(deltas([{ text: "a", tokens: 1 }, end]), 7));
    await Array.fromAsync(metrics.measured(deltas([{ text: "a", tokens: 1 }]), 7));
    await assertRejects(() => Array.fromAsync(metrics.measured(deltas([], new Error("dead")), 7)));
    const text = metrics.text({ model_name: "m" });
    for (const [reason, count] of [
      ["stop", 0],
      ["length", 1],
      ["abort", 1],
      ["error", 1],
    ]) {
      assertStringIncludes(text, `vllm:request_success_total{model_name="m",finished_reason="${reason}"} ${count}\n`);
    }
    assertStringIncludes(text, 'vllm:request_prompt_tokens_sum{model_name="m"} 7\n');
    assertStringIncludes(text, 'vllm:request_generation_tokens_sum{model_name="m"} 3\n');
    assertStringIncludes(text, 'vllm:time_to_first_token_seconds_count{model_name="m"} 2\n');
    assertStringIncludes(text, 'vllm:inter_token_latency_seconds_count{model_name="m"} 2\n');
  });
});
