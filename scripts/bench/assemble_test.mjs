import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertStringIncludes } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";

describe("assemble", () => {
  let root;
  let readme;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "apiq-assemble-"));
    readme = join(root, "README.md");
    mkdirSync(join(root, "results"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  /** A table that counts the results. */
  const assemble = (...flags) => {
    const script = `import { assemble } from ${JSON.stringify(join(import.meta.dirname, "assemble.mjs"))};
      assemble("sums", ${JSON.stringify(root)}, (results) => results.length + " rows");`;
    const args = ["--input-type=module", "-e", script, "--", "--readme", readme, ...flags];
    return spawnSync("node", args, { encoding: "utf8" });
  };
  const addResult = (name) => writeFileSync(join(root, "results", `${name}.json`), "{}");

  it("puts the table between the marks, and finds it there", () => {
    writeFileSync(readme, "a\n<!-- sums -->\n<!-- /sums -->\nb\n");
    addResult("one");
    assertEquals(assemble("--check").status, 1);
    assertEquals(assemble().stderr, "");
    assertEquals(readFileSync(readme, "utf8"), "a\n<!-- sums -->\n1 rows\n<!-- /sums -->\nb\n");
    assertEquals(assemble("--check").status, 0);
    addResult("two");
    const { status, stderr } = assemble("--check");
    assertEquals(status, 1);
    assertStringIncludes(stderr, "is out of date");
  });

  it("wants no place for a table without results", () => {
    writeFileSync(readme, "a\n");
    assertEquals(assemble("--check").status, 0);
    writeFileSync(readme, "a\n<!-- sums -->\n<!-- /sums -->\n");
    const { status, stderr } = assemble("--check");
    assertEquals(status, 1);
    assertStringIncludes(stderr, "Cannot assemble the table: no results");
  });
});
