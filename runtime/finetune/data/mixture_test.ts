import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { inFolder } from "../../formats/test_files.ts";
import { openTokenizer } from "../../tokenizer/mod.ts";
import type { Dataset } from "./example.ts";
import { parseDataFile, readMixture } from "./mixture.ts";

const model = createFakeModel();
const tokenizer = openTokenizer(model.dir);
model.remove();

const OPTIONS = {
  format: "auto",
  template: "task",
  promptLoss: false,
  onBadRow: "fail",
  tooLong: "truncate",
  tokenizer,
  maxLength: 200,
} as const;

describe("parseDataFile", () => {
  it("reads a file, with a share of it or how many examples", () => {
    assertEquals(parseDataFile("a.jsonl"), { file: "a.jsonl", amount: null });
    assertEquals(parseDataFile("a.jsonl@500"), { file: "a.jsonl", amount: 500 });
    assertEquals(parseDataFile("dir@2/a.txt@0.25"), { file: "dir@2/a.txt", amount: 0.25 });
    assertEquals(parseDataFile("user@host"), { file: "user@host", amount: null });
  });

  it("takes a file that has such a name as a whole", async () => {
    await inFolder((dir) => {
      const file = join(dir, "a@500");
      writeFileSync(file, "text");
      assertEquals(parseDataFile(file), { file, amount: null });
      assertEquals(parseDataFile(`${file}@3`), { file, amount: 3 });
    });
  });

  it("refuses an amount that is neither a share nor a count", () => {
    for (const amount of ["0", "1.5", "1.2.3"]) {
      const message = `Cannot use --data a@${amount}: received ${amount}, expected a share below 1 or a whole number`;
      assertThrows(() => parseDataFile(`a@${amount}`), RangeError, message);
    }
  });
});

describe("readMixture", () => {
  it("reads every file in its own format, and of each as many examples as were asked for", async () => {
    await inFolder((dir) => {
      const [rows, text] = [join(dir, "rows.jsonl"), join(dir, "text.txt")];
      const questions = Array.from({ length: 20 }, (_, i) => JSON.stringify({ question: `${i}?`, answer: "1" }));
      writeFileSync(rows, questions.join("\n"));
      writeFileSync(text, "word ".repeat(200));
      const read = (of: number | null, seed = 1) => {
        const files = [
          { file: rows, amount: of },
          { file: text, amount: null },
          { file: rows, amount: 0.25 },
        ];
        return readMixture(files, OPTIONS, seed);
      };
      const mixture = read(6);
      assertEquals(
        mixture.map(({ file, format, examples }) => [file, format, examples.length]),
        [
          [rows, "gsm8k", 6],
          [text, "text", 5],
          [rows, "gsm8k", 5],
        ],
      );
      const places = (seed: number, part: number): string[] => read(6, seed)[part]!.examples.map(({ where }) => where);
      assertEquals(places(1, 0), places(1, 0));
      assertNotEquals(places(1, 0), places(2, 0));
      const lines = places(1, 0).map((where) => Number(where.split(":").at(-1)));
      assertEquals(
        lines,
        lines.toSorted((a, b) => a - b),
      );
      // Two choices out of one file are not the same.
      assert(places(1, 2).some((where) => !places(1, 0).includes(where)));
      assertEquals(read(null)[0]!.examples.length, 20);
      // Numbers of two digits make a token more.
      const whole = read(6)[0]!.examples.map(({ ids }) => ids.length);
      const maxLength = Math.min(...whole);
      const [{ truncated }] = readMixture([{ file: rows, amount: 6 }], { ...OPTIONS, maxLength }, 1) as [Dataset];
      assertEquals(truncated, whole.filter((length) => length > maxLength).length);
      assert(truncated > 0);
      assertEquals(read(500)[0]!.examples.length, 20);
    });
  });
});
