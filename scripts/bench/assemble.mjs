/**
 * The commands that put a table into the README from the results that are kept in the repository:
 *
 *   node scripts/bench/TABLE/assemble.mjs [--check] [--results DIR] [--readme FILE] [--print]
 *
 * With --check nothing is written: a README that says something else than the results ends it with 1, and so does one that has a
 * place for a table of no results.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { REPOSITORY } from "./apiq_command.mjs";
import { replaceMarked } from "./markdown.mjs";
import { readResults } from "./rows.mjs";

/**
 * @param {string} mark name of the README's marks
 * @param {string} folder of the table's scripts, where its results are
 * @param {(results: readonly object[]) => string} renderTable
 */
export function assemble(mark, folder, renderTable) {
  const { values } = parseArgs({
    options: {
      check: { type: "boolean", default: false },
      print: { type: "boolean", default: false },
      results: { type: "string", default: join(folder, "results") },
      readme: { type: "string", default: join(REPOSITORY, "README.md") },
    },
  });
  const place = relative(REPOSITORY, folder);
  const results = readResults(values.results);
  const before = readFileSync(values.readme, "utf8");
  if (results.length === 0) {
    if (values.check && !before.includes(`<!-- ${mark} -->`)) return;
    console.error(`Cannot assemble the table: no results in ${values.results}; run node ${place}/run.mjs`);
    process.exitCode = 1;
    return;
  }
  const table = renderTable(results);
  if (values.print) {
    console.log(table);
    return;
  }
  const after = replaceMarked(before, mark, table);
  if (values.check && before !== after) {
    console.error(`${values.readme} is out of date: run node ${place}/assemble.mjs`);
    process.exitCode = 1;
  }
  if (!values.check) writeFileSync(values.readme, after);
}
