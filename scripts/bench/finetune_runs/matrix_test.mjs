import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { RECIPES } from "../../../runtime/finetune/settings.ts";
import { minutesOf } from "./estimate.mjs";
import { BASES, ROWS, TASKS } from "./matrix.mjs";

describe("rows of the table of real runs", () => {
  it("are every base with every task, under names of their own", () => {
    assertEquals(ROWS.length, BASES.length * TASKS.length);
    assertEquals(new Set(ROWS.map(({ name }) => name)).size, ROWS.length);
  });

  it("name recipes that exist", () => {
    for (const { name } of TASKS) assert(name in RECIPES, name);
  });

  it("take at most 25 minutes of a core each, and five hours together", () => {
    const minutes = ROWS.map(minutesOf);
    for (const [i, value] of minutes.entries()) assert(value > 1 && value <= 25, `${ROWS[i].name}: ${value}`);
    assert(minutes.reduce((sum, value) => sum + value, 0) <= 300);
  });
});
