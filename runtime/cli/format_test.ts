import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { formatBytes, formatDuration, formatNumber, parseBytes } from "./format.ts";

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

describe("formatNumber", () => {
  it("keeps three digits or all of a whole number's, and powers of ten for what is far from 1", () => {
    const numbers = [0, 0.000123, 0.01234, 1.234, 99.96, 100, 6073.4, -6073.4, 1e6, 1.5e-7];
    const texts = ["0.00", "0.000123", "0.0123", "1.23", "100", "100", "6073", "-6073", "1.00e+6", "1.50e-7"];
    assertEquals(
      numbers.map((value) => formatNumber(value)),
      texts,
    );
    assertEquals(formatNumber(6073.44, 5), "6073.4");
  });
});
