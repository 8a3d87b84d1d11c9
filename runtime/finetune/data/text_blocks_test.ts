import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../../tests/shared.ts";
import { inFolder } from "../../formats/test_files.ts";
import { randomWords } from "../../quantize/random.ts";
import { openTokenizer } from "../../tokenizer/mod.ts";
import { cutIntoBlocks, encodeText } from "./text_blocks.ts";

/** Words, marks and much white space: where texts must not be cut carelessly. */
function randomText(characters: number, seed: number): string {
  const parts = ["word", "Other", "12", ".", ",", " ", " ", "  ", "\n", "\n", "\n\n\n", "\t", "é", "😀", "\u3000"];
  const next = randomWords(seed);
  let text = "";
  while (text.length < characters) text += parts[(next() >>> 0) % parts.length];
  return text;
}

describe("encodeText", () => {
  itShared("gives the tokens of the whole text, in however many pieces it is read", async () => {
    const tokenizer = openTokenizer(sharedPath("models/SmolLM2-135M-Instruct"));
    const wikitext = readFileSync(sharedPath("data/wikitext-2/valid.txt"), "utf8").slice(0, 60_000);
    const texts = [
      wikitext,
      ...[1, 2, 3].map((seed) => randomText(30_000, seed)),
      `a${"\n".repeat(5000)}b\n${wikitext}`,
    ];
    await inFolder((dir) => {
      const file = join(dir, "a.txt");
      for (const text of texts) {
        writeFileSync(file, text);
        const pieces = [...encodeText(tokenizer, file, 4000)];
        assert(pieces.length > 5, `${pieces.length} pieces`);
        assertEquals(pieces.flat(), tokenizer.encode(text));
      }
    });
  });

  itShared("names the line that is not UTF-8", async () => {
    const tokenizer = openTokenizer(sharedPath("models/SmolLM2-135M-Instruct"));
    await inFolder((dir) => {
      const file = join(dir, "a.txt");
      writeFileSync(file, Uint8Array.of(97, 10, 0xff, 10));
      assertThrows(() => [...encodeText(tokenizer, file)], Error, `Cannot read ${file}:2: it is not UTF-8 text`);
    });
  });
});

describe("cutIntoBlocks", () => {
  it("cuts back to back across pieces, and leaves out one token alone", () => {
    const cut = (length: number): number[][] => [...cutIntoBlocks([[1, 2, 3], [], [4], [5, 6, 7]], length)];
    assertEquals(cut(3), [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    assertEquals(cut(5), [
      [1, 2, 3, 4, 5],
      [6, 7],
    ]);
    assertEquals(cut(7), [[1, 2, 3, 4, 5, 6, 7]]);
    assertEquals(cut(100), [[1, 2, 3, 4, 5, 6, 7]]);
  });
});
