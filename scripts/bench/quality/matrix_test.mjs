import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { METHODS } from "../../../runtime/quantize/registry.ts";
import { ROWS } from "./matrix.mjs";

describe("rows of the quality table", () => {
  it("have names of their own", () => {
    assertEquals(new Set(ROWS.map(({ name }) => name)).size, ROWS.length);
  });

  it("name methods that exist, and leave none out", () => {
    const used = new Set(ROWS.flatMap(({ method }) => (method === null ? [] : [method])));
    assertEquals([...used].sort(), METHODS.map(({ name }) => name).sort());
  });

  it("have one method, number of bits and budget in a variant, and seeds that differ", () => {
    for (const rows of Map.groupBy(ROWS, ({ variant }) => variant).values()) {
      const settings = rows.map(({ name: _, seed: __, ...rest }) => JSON.stringify(rest));
      assertEquals(new Set(settings).size, 1);
      assertEquals(new Set(rows.map(({ seed }) => seed)).size, rows.length);
    }
  });
});
