import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROWS } from "./matrix.mjs";

const RESULTS = join(import.meta.dirname, "results");

test("the README's table is what the results in the repository say", () => {
  const { status, stderr } = spawnSync("node", [join(import.meta.dirname, "assemble.mjs"), "--check"], {
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
});

test("every result in the repository is a row of the matrix with the row's settings", () => {
  const files = existsSync(RESULTS) ? readdirSync(RESULTS).filter((name) => name.endsWith(".json")) : [];
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    const result = JSON.parse(readFileSync(join(RESULTS, file), "utf8"));
    const row = ROWS.find(({ name }) => `${name}.json` === file);
    expect(row, file).toBeDefined();
    const { samples, length, epochs, flags } = row;
    const settings = { ...(row.calibrated && { samples, length }), ...(epochs !== null && { epochs }), flags };
    expect(result.settings, file).toEqual(settings);
    for (const key of ["name", "variant", "label", "method", "bits", "group", "seed"])
      expect(result[key], `${file}: ${key}`).toBe(row[key]);
  }
});
