import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { readRows, scanRows, textField } from "./rows.ts";

/** Rows as [fields, line]. */
const read = (text: string, limit?: number): Promise<unknown[]> => {
  let rows: unknown[] = [];
  return inFolder((dir) => {
    const path = join(dir, "a.json");
    writeFileSync(path, text);
    rows = readRows(path, limit).map(({ fields, where }) => [fields, Number(where.slice(path.length + 1))]);
  }).then(() => rows);
};

const refuse = (text: string, ...parts: string[]): Promise<void> =>
  inFolder((dir) => {
    const path = join(dir, "a.json");
    writeFileSync(path, text);
    const { message } = assertThrows(() => readRows(path).map((row) => textField(row, "text")));
    for (const part of parts) assertEquals(message.includes(part.replace("FILE", path)), true, message);
  });

describe("readRows", () => {
  it("reads JSON lines and skips empty ones", async () => {
    const rows = [
      [{ a: 1 }, 1],
      [{ a: 2 }, 3],
    ];
    assertEquals(await read('{"a":1}\r\n\n{"a":2}\n'), rows);
    assertEquals(await read('{"a":1}\n\n{"a":2}'), rows);
  });

  it("reads one array, and knows on which line each item begins", async () => {
    const text = '\n[\n  {"a": "x,[\\"{\\n"},\n\n {"a": [1, {"b": 2}],\n "c": 3}, {"a": 4}\n]';
    assertEquals(await read(text), [
      [{ a: 'x,["{\n' }, 3],
      [{ a: [1, { b: 2 }], c: 3 }, 5],
      [{ a: 4 }, 6],
    ]);
  });

  it("stops at the limit", async () => {
    assertEquals(await read('{"a":1}\n{"a":2}\nnonsense', 2), [
      [{ a: 1 }, 1],
      [{ a: 2 }, 2],
    ]);
    assertEquals(await read('[{"a":1},{"a":2}]', 1), [[{ a: 1 }, 1]]);
  });

  it("names file and line of what it cannot use", async () => {
    await refuse('{"text":"a"}\n{"text":', "Cannot read FILE:2: ");
    await refuse('{"text":"a"}\n7', "Cannot use FILE:2: received number, expected a JSON object");
    await refuse('[{"text":"a"},\n[]]', "Cannot use FILE:2: received array, expected a JSON object");
    await refuse('{"text":"a"}\n{"text":5}', 'Cannot use FILE:2: "text" received 5, expected a text');
    await refuse('{"text":""}', 'Cannot use FILE:1: "text" received "", expected a text');
    await refuse("[{]", "Cannot read FILE: ");
    await refuse("\n \n", "Cannot use FILE: received no rows");
    await refuse("[]", "Cannot use FILE: received no rows");
  });
});

describe("scanRows", () => {
  /** Of good rows their fields, of bad ones the message behind FILE. */
  const scan = async (text: string | Uint8Array): Promise<unknown[]> => {
    const found: unknown[] = [];
    await inFolder((dir) => {
      const path = join(dir, "a.json");
      writeFileSync(path, text);
      for (const row of scanRows(path)) {
        found.push(
          "error" in row
            ? row.error.message.slice(0, row.error.message.indexOf(path)) + row.where.slice(dir.length)
            : row.fields,
        );
      }
    });
    return found;
  };

  it("goes on behind bad rows, in lines and in arrays", async () => {
    const expected = [{ a: 1 }, "Cannot read /a.json:2", "Cannot use /a.json:3", { a: 4 }];
    assertEquals(await scan('{"a":1}\n{"a":\n"x"\n{"a":4}'), expected);
    assertEquals(await scan('[{"a":1},\n{"a":},\n"x",\n{"a":4}]'), expected);
  });

  it("takes an item that is missing between commas for a bad row", async () => {
    assertEquals(await scan('[{"a":1},\n,\n{"a":2},\n]'), [
      { a: 1 },
      "Cannot read /a.json:2",
      { a: 2 },
      "Cannot read /a.json:4",
    ]);
    assertEquals(await scan(" [ ] "), []);
  });

  it("names the line whose bytes are not UTF-8", async () => {
    const bytes = new TextEncoder().encode('{"a":1}\n{"a":"?"}\n{"a":2}');
    bytes[bytes.indexOf(63)] = 0xff;
    assertEquals(await scan(bytes), [{ a: 1 }, "Cannot read /a.json:2", { a: 2 }]);
  });

  it("refuses an array that does not end, or after which something follows", async () => {
    await refuse('[{"a":1},\n{"a":"b]', "Cannot read FILE: the array has no end; its last item begins on line 2");
    await refuse('[{"text":"a"}]\n[]', "Cannot read FILE:2: received text after the array's end");
  });
});
