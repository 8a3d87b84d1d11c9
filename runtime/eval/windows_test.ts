import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { tokenWindows } from "./windows.ts";

describe("tokenWindows", () => {
  it("cuts back to back, drops the rest and keeps to the limit", () => {
    const stream = [0, 1, 2, 3, 4, 5, 6];
    assertEquals(tokenWindows(stream, 3), [
      [0, 1, 2],
      [3, 4, 5],
    ]);
    assertEquals(tokenWindows(stream, 3, 1), [[0, 1, 2]]);
    assertEquals(tokenWindows(stream, 7, 5), [stream]);
  });

  it("refuses a stream that does not fill one window", () => {
    assertThrows(() => tokenWindows([1, 2], 3), Error, "received 2 tokens, expected at least 3");
  });
});
