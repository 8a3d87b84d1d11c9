import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createByteModel } from "../../../tests/fixtures/byte_model.ts";
import { readResults } from "../rows.mjs";
import { renderTable } from "./table.mjs";

const ROWS = ["wikitext-rtn-2bit-g64", "arithmetic-rtn-2bit-g64"];

let root;

/** `run.mjs` on a model of a few hundred kilobytes, found where a base is looked for. */
function run(...args) {
  const folders = ["bases", "shared", "work", "results"].flatMap((name) => [`--${name}`, join(root, name)]);
  const budget = ["--steps", "2", "--questions", "3", "--windows", "1", "--threads", "1"];
  const script = join(import.meta.dirname, "run.mjs");
  return new Promise((resolve) => {
    const child = spawn("node", [script, "--model", join(root, "none"), ...folders, ...budget, ...args]);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        output += text;
      });
    }
    child.on("close", (status) => resolve({ status, output }));
  });
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "apiq-runs-"));
  const model = await createByteModel({ bits: 2, loraRank: 4 });
  cpSync(model.dir, join(root, "bases", "rtn-2bit-g64"), { recursive: true });
  model[Symbol.dispose]();
  const write = (name, text) => {
    const file = join(root, "shared", "data", name);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, text);
  };
  write("wikitext-2/valid.txt", "It was the best of times, it was the worst of times. ".repeat(80));
  write("wikitext-2/test.txt", "It was the age of wisdom, it was the age of foolishness. ".repeat(20));
  const rows = (begin, count) =>
    JSON.stringify(
      Array.from({ length: count }, (_, i) => ({
        ...{ instruction: `What is ${begin + i} and 1?`, input: "" },
        ...{ output: `The answer is ${begin + i + 1}.`, answer: String(begin + i + 1) },
      })),
    );
  write("arithmetic/train.json", rows(0, 64));
  for (const [i, name] of ["addsub", "multiarith", "singleeq"].entries()) {
    write(`arithmetic/${name}.test.json`, rows(60 + 2 * i, 2));
  }
});
afterAll(() => rmSync(root, { recursive: true }));

describe("the command that makes the table of real runs", () => {
  it("evaluates, finetunes, evaluates again, and leaves results that make a table", async () => {
    const { status, output } = await run("--only", ROWS.join(","));
    assertEquals(status, 0, output);
    const results = readResults(join(root, "results"));
    assertEquals(
      results.map(({ name }) => name),
      ROWS.toSorted(),
    );
    const [arithmetic, wikitext] = results;
    assert(wikitext.after.ppl < wikitext.before.ppl, `${wikitext.before.ppl} -> ${wikitext.after.ppl}`);
    assert(wikitext.training.peakBytes > 0 && wikitext.training.tokensPerSecond > 0);
    // 60 to 63 are among the training questions.
    assertEquals(arithmetic.data, { trainingRows: 64, ofTrainingRows: 64, testRows: 2, ofTestRows: 6 });
    assertEquals([arithmetic.before.rows, arithmetic.after.rows], [2, 2]);
    const { before, after } = arithmetic.training.validation;
    assert(after < before, `${before} -> ${after}`);
    for (const { commands } of results) {
      assertEquals(commands.length, 3);
      assert(!commands.join().includes(root), commands.join("\n"));
    }
    assertStringIncludes(renderTable(results), "| rtn ");
    assertEquals(readdirSync(join(root, "work")), ["data"]);
  });

  it("does not run again what is there, and lists what is missing", async () => {
    const { output } = await run("--list");
    for (const row of ROWS) assert(new RegExp(`done +\\d+ min +${row}\\n`).test(output), output);
    assertStringIncludes(output, "gsm8k-rtn-2bit-g64\n");
    assertStringIncludes(output, "wikitext-loftq-2bit-g64  its base is quantized first");
  });

  it("names a row whose data is missing, and what can be done, and leaves no result", async () => {
    const { status, output } = await run("--only", "gsm8k-rtn-2bit-g64");
    assertEquals(status, 1);
    assertStringIncludes(output, "gsm8k");
    assert(!existsSync(join(root, "results", "gsm8k-rtn-2bit-g64.json")));
  });
});
