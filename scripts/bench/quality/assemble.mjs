/**
 * Puts the table of quality into the README from the results that are kept in the repository.
 *
 *   node scripts/bench/quality/assemble.mjs [--check] [--results DIR] [--readme FILE] [--print]
 *
 * With --check nothing is written: a README that says something else than the results ends it with 1.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { renderTable, replaceTable } from "./table.mjs";

const { values } = parseArgs({
  options: {
    check: { type: "boolean", default: false },
    print: { type: "boolean", default: false },
    results: { type: "string", default: join(import.meta.dirname, "results") },
    readme: { type: "string", default: join(import.meta.dirname, "..", "..", "..", "README.md") },
  },
});

const results = (existsSync(values.results) ? readdirSync(values.results) : [])
  .filter((name) => name.endsWith(".json"))
  .sort()
  .map((name) => JSON.parse(readFileSync(join(values.results, name), "utf8")));
if (results.length === 0) {
  console.error(`Cannot assemble the table: no results in ${values.results}; run node scripts/bench/quality/run.mjs`);
  process.exit(1);
}
const table = renderTable(results);
if (values.print) {
  console.log(table);
} else {
  const before = readFileSync(values.readme, "utf8");
  const after = replaceTable(before, table);
  if (values.check && before !== after) {
    console.error(`${values.readme} is out of date: run node scripts/bench/quality/assemble.mjs`);
    process.exit(1);
  }
  if (!values.check) writeFileSync(values.readme, after);
}
