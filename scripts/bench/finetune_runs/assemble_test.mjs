import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { readResults } from "../rows.mjs";
import { ROWS } from "./matrix.mjs";

test("the README's table of real runs is what the results in the repository say", () => {
  const { status, stderr } = spawnSync("node", [join(import.meta.dirname, "assemble.mjs"), "--check"], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
});

test("every result in the repository is a row of the matrix with the row's settings", () => {
  for (const result of readResults(join(import.meta.dirname, "results"))) {
    const row = ROWS.find(({ name }) => name === result.name);
    expect(row, result.name).toBeDefined();
    const { base, task } = row;
    expect([result.task, result.base, result.label], result.name).toEqual([task.name, base.name, base.label]);
    expect(result.settings, result.name).toEqual({ flags: task.flags, evaluation: task.evaluation });
  }
});
