import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { inFolder } from "../formats/test_files.ts";
import { readRows, textField } from "./rows.ts";

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
