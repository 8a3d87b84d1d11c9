import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { CommandError } from "./process.mjs";
import { chooseRows, isDone, readResults, runRows, UsageError, wholeNumber } from "./rows.mjs";

const ROWS = [{ name: "a" }, { name: "b" }, { name: "c" }];

describe("rows of a table", () => {
  let results;
  beforeEach(() => {
    results = mkdtempSync(join(tmpdir(), "apiq-rows-"));
  });
  afterEach(() => rmSync(results, { recursive: true }));

  const run = (rows, again, make = async ({ name }) => ({ name, made: true })) =>
    runRows(rows, { results, again, run: make, summary: () => "" });

  it("are chosen by name, in the order that was asked for", () => {
    assertEquals(chooseRows(ROWS, undefined), ROWS);
    assertEquals(chooseRows(ROWS, "c,a"), [ROWS[2], ROWS[0]]);
    assertThrows(() => chooseRows(ROWS, "a,d"), UsageError, "Cannot find row d");
  });

  it("leave their results behind, and do not run again unless they are asked to", async () => {
    writeFileSync(join(results, "b.json"), '{"name": "b"}');
    assertEquals(
      ROWS.map((row) => isDone(results, row)),
      [false, true, false],
    );
    assertEquals(await run(ROWS, false), 0);
    assertEquals(
      readResults(results).map(({ name, made }) => [name, made]),
      [
        ["a", true],
        ["b", undefined],
        ["c", true],
      ],
    );
    await run([ROWS[1]], true);
    assertEquals(readResults(results)[1].made, true);
  });

  it("fail alone: the others run, and what failed leaves nothing", async () => {
    const failing = async ({ name }) => {
      if (name === "a") throw new CommandError("Cannot finish a");
      return { name };
    };
    assertEquals(await run(ROWS, false, failing), 1);
    assertEquals(readdirSync(results).sort(), ["b.json", "c.json"]);
    await assertRejects(() => run([ROWS[0]], true, () => Promise.reject(new TypeError("a mistake"))), TypeError);
  });

  it("take whole numbers from the command line", () => {
    assertEquals([wholeNumber(undefined, "steps"), wholeNumber("12", "steps")], [undefined, 12]);
    for (const text of ["", "-1", "1.5", "many"]) {
      assertThrows(() => wholeNumber(text, "steps"), UsageError, "Cannot read --steps");
    }
  });
});
