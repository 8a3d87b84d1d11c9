import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { StopStrings } from "./stop_strings.ts";

/** Everything shown when `text` arrives in pieces of `size` characters. */
function shown(text: string, stops: readonly string[], size: number): string {
  const matcher = new StopStrings(stops);
  let out = "";
  for (let at = 0; at < text.length; at += size) {
    const { text: piece, stopped } = matcher.push(text.slice(at, at + size));
    out += piece;
    if (stopped) return out;
  }
  return out + matcher.flush();
}

describe("StopStrings", () => {
  it("passes everything on without stops", () => {
    assertEquals(new StopStrings([]).push("hello"), { text: "hello", stopped: false });
  });

  it("holds back a partial match and gives it up when it fails", () => {
    const matcher = new StopStrings(["\n\nUser:"]);
    assertEquals(matcher.push("Yes.\n\nUs"), { text: "Yes.", stopped: false });
    assertEquals(matcher.push("ually"), { text: "\n\nUsually", stopped: false });
    assertEquals(matcher.push(" so\n"), { text: " so", stopped: false });
    assertEquals(matcher.flush(), "\n");
  });

  it("finds a stop that spans many pieces and overlaps with itself", () => {
    assertEquals(shown("aabaabaac", ["aabaac"], 1), "aab");
  });

  it("gives the same text however it is cut", () => {
    const cases: readonly (readonly [string, readonly string[], string])[] = [
      ["one STOP two", ["STOP"], "one "],
      ["xabcx", ["abcx", "b"], "xa"],
      ["xabc", ["bc", "abc"], "x"],
      ["no stop here", ["stopper"], "no stop here"],
      ["STOP", ["STOP"], ""],
      ["héllo 😀 wörld", ["😀 w"], "héllo "],
    ];
    for (const [text, stops, expected] of cases) {
      for (let size = 1; size <= text.length; size++) assertEquals(shown(text, stops, size), expected);
    }
  });
});
