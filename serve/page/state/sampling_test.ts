import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { chatRequest } from "../../schemas/chat.ts";
import { SETTINGS, settingProblem } from "./sampling.ts";

describe("the settings on the page", () => {
  it("end where the server's own limits are, and nothing beyond is taken over", () => {
    const accepts = (field: string, value: number) =>
      chatRequest.schema.safeParse({ model: "m", messages: [{ role: "user", content: "x" }], [field]: value }).success;
    for (const spec of SETTINGS) {
      const { field, min, max } = spec;
      for (const value of [min, max]) {
        assertEquals(
          [field, value, accepts(field, value), settingProblem(spec, `${value}`)],
          [field, value, true, undefined],
        );
      }
      for (const value of ["x", `${max}0`, "1e999"])
        assertEquals(typeof settingProblem(spec, value), "string", `${field} ${value}`);
      assertEquals(settingProblem(spec, " "), undefined);
    }
  });

  it("want whole numbers where the server does", () => {
    for (const spec of SETTINGS)
      assertEquals(settingProblem(spec, "0.5") !== undefined, spec.integer === true, spec.field);
  });
});
