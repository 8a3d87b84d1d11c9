import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { LineWriter } from "./line_writer.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("LineWriter", () => {
  it("writes all lines in order, however few bytes are taken at a time", async () => {
    let written = "";
    const lines = new LineWriter(async (bytes) => {
      written += text(bytes.subarray(0, 3));
      return Math.min(3, bytes.length);
    });
    lines.write("one\n");
    lines.write("two, longer\n");
    await lines.flush();
    lines.write("three\n");
    await lines.flush();
    assertEquals(written, "one\ntwo, longer\nthree\n");
  });

  it("loses lines that cannot be written, and writes the next", async () => {
    let written = "";
    let isFull = true;
    const lines = new LineWriter(async (bytes) => {
      if (isFull) throw new Error("ENOSPC");
      written += text(bytes);
      return bytes.length;
    });
    lines.write("lost\n");
    await lines.flush();
    isFull = false;
    lines.write("kept\n");
    await lines.flush();
    assertEquals(written, "kept\n");
  });

  it("keeps a bounded number of lines for a reader that does not read, and does not wait for it", async () => {
    const pieces: number[] = [];
    let read = (_: number) => {};
    const lines = new LineWriter((bytes) => {
      pieces.push(bytes.length);
      return new Promise<number>((resolve) => {
        read = resolve;
      });
    });
    for (let i = 0; i < 100; i++) lines.write(`${"x".repeat(100_000)}\n`);
    await lines.flush();
    assertEquals(pieces.length, 1);
    read(pieces[0]!);
    await new Promise((resolve) => setTimeout(resolve, 0));
    const kept = pieces[0]! + pieces[1]!;
    assert(kept > 900_000 && kept <= 1 << 20, `${kept}`);
  });
});
