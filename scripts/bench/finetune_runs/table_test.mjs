import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { accuracy, renderTable } from "./table.mjs";

const machine = { cpu: "a CPU", threads: 1, isa: "avx2" };
const training = {
  tokensPerSecond: 99.6,
  peakBytes: 1.234e9,
  validation: { before: Math.log(20), after: Math.log(4) },
};
const result = (task, base, before, after, rest = {}) => ({
  ...{ name: `${task}-${base}`, task, base, before, after, training, machine },
  ...rest,
});
const ppl = (value, windows = 40) => ({ ppl: value, windows });
const right = (correct, rows = 249) => ({ correct, rows, accuracy: correct / rows });

const RESULTS = [
  result("arithmetic", "rtn-2bit-g64", right(0), right(25)),
  result("wikitext", "fp16", ppl(21.3827), ppl(19.5)),
  result("wikitext", "rtn-2bit-g64", ppl(561717.2), ppl(900.5), {
    training: { tokensPerSecond: 50, peakBytes: 1.5e9, validation: null },
  }),
];

const lineOf = (text, label) => text.split("\n").find((line) => line.startsWith(`| ${label} `));

describe("table of real runs", () => {
  it("says before and after, with the error that the number of questions leaves", () => {
    const line = lineOf(renderTable(RESULTS), "rtn");
    for (const cell of ["561,717 → 900.50", "0.0 → 10.0 ± 1.9", "20.00 → 4.00"]) assertStringIncludes(line, cell);
  });

  it("has the error of a share", () => {
    assertEquals(accuracy({ correct: 50, rows: 100 }), "50.0 ± 5.0");
    assertEquals(accuracy({ correct: 100, rows: 100 }), "100.0");
  });

  it("shows the middle speed and the largest memory of a base", () => {
    assertStringIncludes(lineOf(renderTable(RESULTS), "rtn"), "| 75       | 1.50 GB");
  });

  it("leaves cells empty where a row has not been run, and lines out where none has", () => {
    const text = renderTable(RESULTS);
    const cells = lineOf(text, "full precision").split("|");
    assertEquals(
      cells.slice(2, 7).map((cell) => cell.trim()),
      ["21.38 → 19.50", "", "", "", ""],
    );
    assertEquals(lineOf(text, "loftq"), undefined);
  });

  it("puts full precision first and all lines at one width", () => {
    const lines = renderTable(RESULTS)
      .split("\n")
      .filter((line) => line.startsWith("|"));
    assert(lines[2].startsWith("| full precision"), lines[2]);
    assertEquals(new Set(lines.map(({ length }) => length)).size, 1);
  });

  it("describes the tasks that there are results of", () => {
    const text = renderTable(RESULTS);
    assertStringIncludes(text, "40 windows");
    assertStringIncludes(text, "249 questions");
    assertEquals(text.includes("GSM8K"), false);
    assertStringIncludes(text, "Machine: a CPU, 1 threads, avx2.");
  });

  it("refuses results of different evaluations", () => {
    const other = result("wikitext", "loftq-2bit-g64", ppl(3, 2), ppl(2, 2));
    assertThrows(() => renderTable([...RESULTS, other]), Error, "the number of windows is 40 in some, 2 in others");
  });
});
