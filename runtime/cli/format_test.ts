import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { formatBytes, formatDuration, parseBytes } from "./format.ts";

describe("parseBytes", () => {
  it("reads plain numbers, powers of 1024 and powers of 1000", () => {
    const sizes: readonly (readonly [string, number | undefined])[] = [
      ["4096", 4096],
      ["12B", 12],
      ["1K", 1024],
      ["1.5G", 1.5 * 2 ** 30],
      ["2GiB", 2 * 2 ** 30],
      ["2 gb", 2e9],
      ["1T", 2 ** 40],
      ["", undefined],
      ["-1", undefined],
      ["2X", undefined],
      ["iB", undefined],
    ];
    for (const [text, bytes] of sizes) assertEquals(parseBytes(text), bytes);
  });
});

describe("formatBytes", () => {
  it("keeps three digits", () => {
    const sizes = [0, 999, 1000, 1_234_567, 999_950, 5.25e12];
    assertEquals(sizes.map(formatBytes), ["0 B", "999 B", "1.00 KB", "1.23 MB", "1.00 MB", "5.25 TB"]);
  });
});

describe("formatDuration", () => {
  it("uses two units at most", () => {
    assertEquals([0.85, 12.4, 200, 7500].map(formatDuration), ["850 ms", "12 s", "3 min 20 s", "2 h 5 min"]);
  });
});
