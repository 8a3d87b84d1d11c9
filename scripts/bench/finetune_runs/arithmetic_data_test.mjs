import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { runScript } from "../apiq_command.mjs";

const row = (instruction, output, answer) => ({ instruction, input: "", output, answer });

describe("arithmetic_data.ts", () => {
  it("keeps right worked answers for training, and for the test questions that no training row has", async () => {
    const dir = mkdtempSync(join(tmpdir(), "apiq-arithmetic-"));
    try {
      const write = (name, rows) => writeFileSync(join(dir, `${name}.json`), JSON.stringify(rows));
      const kept = row("Two and 3?", "2 + 3 = 5. The answer is 5.", "5");
      write("train", [
        kept,
        row("two  and 3 ?", "The answer is 5.", "5.0"),
        row("Wrong?", "The answer is 4.", "5"),
        row("Empty?", "", "5"),
      ]);
      write("addsub.test", [row("TWO and 3", "", "5"), row("wrong", "", "5"), row("New 1?", "", "1")]);
      write("multiarith.test", [row("New 2?", "", "2"), row("new 1", "", "1")]);
      write("singleeq.test", [row("New 2", "", "2"), row("New 3?", "", "3.0")]);
      const out = join(dir, "made");
      const { answer } = await runScript(join(import.meta.dirname, "arithmetic_data.ts"), [dir, out]);
      assertEquals(answer, { trainingRows: 1, ofTrainingRows: 4, testRows: 3, ofTestRows: 7 });
      const read = (name) => JSON.parse(readFileSync(join(out, name), "utf8"));
      assertEquals(read("arithmetic.train.json"), [kept]);
      assertEquals(
        read("arithmetic.test.json").map(({ instruction }) => instruction),
        ["New 1?", "New 2?", "New 3?"],
      );
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
