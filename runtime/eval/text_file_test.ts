import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { firstCharacters, type Line, readLines, readText } from "./text_file.ts";

async function withFile<T>(content: string | Uint8Array, body: (path: string) => T): Promise<T> {
  let result: T | undefined;
  await inFolder((dir) => {
    const path = join(dir, "a.txt");
    writeFileSync(path, content);
    result = body(path);
  });
  return result as T;
}

const lines = (content: string | Uint8Array): Promise<Line[]> => withFile(content, (path) => [...readLines(path)]);

const line = (text: string | null, number: number, ended = true): Line => ({ text, number, ended });

describe("readLines", () => {
  it("leaves out line ends and a byte-order mark", async () => {
    assertEquals(await lines("\uFEFFone\r\n\ntwo\rthree\n"), [line("one", 1), line("", 2), line("two\rthree", 3)]);
    assertEquals(await lines("one\n\uFEFFtwo"), [line("one", 1), line("\uFEFFtwo", 2, false)]);
    assertEquals(await lines(""), []);
    assertEquals(await lines("\n"), [line("", 1)]);
  });

  it("puts lines together that cross the pieces a file is read in, whatever character is cut", async () => {
    // The file is read in pieces of 2^20 bytes: each of these characters of two, three and four bytes lies across an end of one.
    const begin = `${"a".repeat(2 ** 20 - 1)}ü\n${"b".repeat(2 ** 20 - 4)}€`;
    const text = `${begin}\n${"c".repeat(3 * 2 ** 20 - new TextEncoder().encode(begin).length - 3)}😀\r\nlast`;
    const found = await lines(text);
    assertEquals(
      found.map(({ text }) => text),
      text.split(/\r?\n/),
    );
    assertEquals(found.at(-1)!.ended, false);
  });

  it("tells which line is not UTF-8 and goes on", async () => {
    const bytes = Uint8Array.from([0x61, 10, 0xc3, 0x28, 10, 0x62, 10]);
    assertEquals(await lines(bytes), [line("a", 1), line(null, 2), line("b", 3)]);
  });

  it("names the file that it cannot read", async () => {
    assertThrows(() => [...readLines("/absent/file")], Error, "Cannot read /absent/file: it does not exist");
    assertThrows(() => [...readLines("/")], Error, "Cannot read /: ");
    assertThrows(() => readText("/absent/file"), Error, "Cannot read /absent/file: it does not exist");
  });

  it("refuses a line that is too long to be one", async () => {
    const { message } = await withFile(new Uint8Array(66 * 2 ** 20).fill(97), (path) =>
      assertThrows(() => [...readLines(path)]),
    );
    assertEquals(message.includes(":1: the line is longer than"), true, message);
  });
});

describe("firstCharacters", () => {
  it("passes over white space and a byte-order mark", async () => {
    assertEquals(await withFile('\uFEFF \r\n\n[ \n {"a"', (path) => firstCharacters(path, 2)), "[{");
    assertEquals(await withFile("  ", (path) => firstCharacters(path, 2)), "");
  });
});
