import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Admission } from "./admission.ts";
import { ApiError } from "./errors.ts";

describe("Admission", () => {
  it("lets as many wait as allowed, and others in again when some have ended", () => {
    const admission = new Admission(2);
    const leave = admission.enter(3, 1);
    const error = assertThrows(() => admission.enter(1, 1), ApiError, "2 wait already, at most 2 may");
    assertEquals([error.status, error.headers], [429, { "retry-after": "2" }]);
    leave();
    admission.enter(1, 1);
  });

  it("lets nobody leave twice", () => {
    const admission = new Admission(0);
    const leave = admission.enter(1, 2);
    admission.enter(1, 2);
    leave();
    leave();
    assertThrows(() => admission.check(1), ApiError);
  });

  it("takes one request of any size when nothing runs", () => {
    const admission = new Admission(0);
    admission.enter(100, 8);
    assertThrows(() => admission.check(8), ApiError);
  });
});
