import { assertEquals, assertFalse } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Detokenizer } from "./detokenizer.ts";

/** A token is a byte; a text loses a leading space, as SentencePiece's does. */
const decode = (ids: readonly number[]): string => new TextDecoder().decode(Uint8Array.from(ids)).replace(/^ /, "");
const detokenizer = (): Detokenizer => new Detokenizer(decode, (id) => id > 255);

/** Deltas, and what flush adds. */
function run(ids: readonly number[]): { deltas: string[]; rest: string } {
  const stream = detokenizer();
  const deltas = ids.map((id) => stream.push(id));
  return { deltas, rest: stream.flush() };
}

describe("Detokenizer", () => {
  it("holds a character back until its last byte", () => {
    const { deltas, rest } = run([...new TextEncoder().encode("a€🙂b")]);
    assertEquals(deltas, ["a", "", "", "€", "", "", "", "🙂", "b"]);
    assertEquals(rest, "");
  });

  it("gives incomplete bytes as one replacement character at the end", () => {
    assertEquals(run([97, 0xf0, 0x9f]), { deltas: ["a", "", ""], rest: "\uFFFD" });
  });

  it("keeps spaces inside a text and drops the leading one", () => {
    const { deltas, rest } = run([...new TextEncoder().encode(" a b  c")]);
    assertEquals(deltas.join("") + rest, "a b  c");
  });

  it("passes over skipped tokens in the middle of a character", () => {
    const { deltas } = run([0xe2, 1000, 0x82, 0xac, 1000, 32, 97]);
    assertEquals(deltas, ["", "", "", "€", "", " ", "a"]);
  });

  it("starts a new text after flush", () => {
    const stream = detokenizer();
    stream.push(0xe2);
    assertEquals(stream.flush(), "\uFFFD");
    assertEquals(stream.push(97), "a");
    assertEquals(stream.flush(), "");
  });

  it("agrees with decoding at once on any bytes", () => {
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    // Mostly pieces of multi-byte characters, so that valid, broken and cut sequences all come up.
    const bytes = [0x20, 0x61, 0x80, 0x9f, 0xac, 0xbf, 0xc3, 0xe2, 0xf0, 0xff];
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: 1 + random(60) }, () => bytes[random(bytes.length)]!);
      const { deltas, rest } = run(ids);
      assertEquals(deltas.join("") + rest, decode(ids), `bytes ${ids}`);
    }
  });

  it("keeps the window short however long the text stays invalid", () => {
    let longest = 0;
    const stream = new Detokenizer(
      (ids) => {
        longest = Math.max(longest, ids.length);
        return decode(ids);
      },
      () => false,
    );
    for (let i = 0; i < 1000; i++) stream.push(0xff);
    assertFalse(longest > 32, `window of ${longest} tokens`);
  });
});
