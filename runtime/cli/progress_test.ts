import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Progress } from "./progress.ts";

function draw(isTTY: boolean): string[] {
  const lines: string[] = [];
  let now = 0;
  const sink = { isTTY, columns: 80, write: (text: string) => lines.push(text) };
  using progress = new Progress(sink, "weights", 400, "bytes", () => now);
  for (now = 0; now <= 1000; now += 50) progress.update(now / 10);
  return lines;
}

describe("Progress", () => {
  it("draws a bar with the time left, not more often than it is worth", () => {
    const lines = draw(true);
    assertEquals(lines.length, 11 + 1);
    assertStringIncludes(lines[10] ?? "", "weights ██████░░░░░░░░░░░░░░░░░░ 100 B/400 B, 3 s left");
    assertEquals(lines[11], "\r\x1b[2K");
  });

  it("is silent when piped", () => {
    assertEquals(draw(false), []);
  });
});
