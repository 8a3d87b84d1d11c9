import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { highlight } from "./highlight.ts";

const coloured = (code: string, language: string) =>
  highlight(code, language).flatMap(({ text, kind }) => (kind ? [`${kind} ${text}`] : []));

describe("code in colours", () => {
  it("is the same code", () => {
    const code = '/* open\nlet s = \'it\\\'s\' // "why\n"""x $(`a` + 0x1F) # é\n';
    for (const language of ["", "js", "python", "sql", "nonsense"]) {
      const spans = highlight(code, language);
      assertEquals(spans.map(({ text }) => text).join(""), code);
    }
  });

  it("tells comments, strings, numbers, keywords and calls apart", () => {
    assertEquals(coloured("const x = f('a // b', 1.5e3); // c", "js"), [
      "keyword const",
      "call f",
      "string 'a // b'",
      "number 1.5e3",
      "comment // c",
    ]);
    assertEquals(coloured("x = 7 // 2  # half", "python"), ["number 7", "number 2", "comment # half"]);
    assertEquals(coloured("SELECT a -- why\nFROM t", "sql"), ["keyword SELECT", "comment -- why", "keyword FROM"]);
    assertEquals(coloured("for all of it", "text"), []);
  });

  it("takes time in proportion to the code", () => {
    const begin = performance.now();
    for (const piece of ["'", '"', "/*", "`", "a ", "1"]) highlight(piece.repeat(50_000), "js");
    assertEquals(performance.now() - begin < 5000, true);
  });
});
