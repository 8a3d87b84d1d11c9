import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { machinesOf, markdownTable, perplexity, replaceMarked, same } from "./markdown.mjs";

describe("tables of the README", () => {
  it("pad cells to the width of their column", () => {
    const rows = [
      ["a", "long header"],
      ["longer", ""],
    ];
    assertEquals(markdownTable(rows), [
      "| a      | long header |",
      "| ------ | ----------- |",
      "| longer |             |",
    ]);
  });

  it("write perplexities with the digits that say something", () => {
    assertEquals([21.382, 999.994, 1000, 568377.4].map(perplexity), ["21.38", "999.99", "1,000", "568,377"]);
    assertEquals(perplexity(Number.NaN), "none");
  });

  it("name every machine once", () => {
    const machine = { cpu: "a CPU", threads: 2, isa: "avx2" };
    assertEquals(machinesOf([{ machine }, { machine }]), "Machine: a CPU, 2 threads, avx2.");
    assertEquals(
      machinesOf([{ machine }, { machine: { ...machine, threads: 1 } }]),
      "Machines: a CPU, 1 threads, avx2; a CPU, 2 threads, avx2.",
    );
  });

  it("hold results of one kind only", () => {
    const windows = ({ windows }) => windows;
    assertEquals(same([{ windows: 2 }, { windows: 2 }], "windows", windows), 2);
    assertThrows(() => same([{ windows: 2 }, { windows: 3 }], "windows", windows), Error, "windows is 2 in some, 3 in");
  });

  it("replace what stands between the marks, and change nothing the second time", () => {
    const once = replaceMarked("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n", "bench", "new");
    assertEquals(once, "before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n");
    assertEquals(replaceMarked(once, "bench", "new"), once);
  });

  it("need both marks, in order", () => {
    for (const document of ["", "<!-- bench -->", "<!-- /bench --><!-- bench -->", "<!-- a --><!-- /a -->"]) {
      assertThrows(() => replaceMarked(document, "bench", "new"), Error, "<!-- bench -->");
    }
  });
});
