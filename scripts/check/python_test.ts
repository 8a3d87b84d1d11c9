import { assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { findPython, PythonMissing } from "./python.ts";

describe("findPython", () => {
  it("names a program that cannot be started", () => {
    assertThrows(() => findPython("apiq-no-such-python", []), PythonMissing, "apiq-no-such-python cannot be started");
  });

  it("says what a program that is no Python answers", () => {
    assertThrows(() => findPython("false", ["numpy"]), PythonMissing, "false failed");
  });
});
