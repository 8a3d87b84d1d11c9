import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { bytesPerStep, ensureRandomGguf } from "./random_gguf.mjs";

const SHAPE = {
  layers: 1,
  hidden: 256,
  intermediate: 512,
  heads: 4,
  kvHeads: 2,
  vocabulary: 40,
  context: 64,
  ropeBase: 10000,
  epsilon: 1e-5,
};
const EMBEDDING_BYTES = (40 * 256 * 34) / 32;
const NORM_BYTES = 3 * 256 * 4;
const LINEAR_WEIGHTS = 2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512;
const TERNARY_BYTES = (LINEAR_WEIGHTS / 256) * 66;

describe("random GGUF", () => {
  let dir;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), "apiq-gguf-test-"));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it("is as long as its header and tensors, and leaves no partial file", () => {
    const path = join(dir, "m.gguf");
    ensureRandomGguf(path, SHAPE, "TQ2_0");
    const file = readFileSync(path);
    assertEquals(file.subarray(0, 4).toString(), "GGUF");
    assertEquals(file.readUInt32LE(4), 3);
    assertEquals(Number(file.readBigUInt64LE(8)), 12);
    const data = 2 * EMBEDDING_BYTES + NORM_BYTES + TERNARY_BYTES;
    assert(file.length > data && file.length < data + 4096);
    assertEquals(readdirSync(dir), ["m.gguf"]);
  });

  it("has the same bytes every time", () => {
    const paths = ["a.gguf", "b.gguf"].map((name) => join(dir, name));
    for (const path of paths) ensureRandomGguf(path, SHAPE, "Q4_K");
    assert(readFileSync(paths[0]).equals(readFileSync(paths[1])));
  });

  it("keeps ternary codes in 0..2 and scales at their place", () => {
    const path = join(dir, "ternary.gguf");
    ensureRandomGguf(path, SHAPE, "TQ2_0");
    // The output head and the final norm come last; before them lies ffn_down, whose size is a multiple of 32.
    const file = readFileSync(path);
    const end = file.length - EMBEDDING_BYTES - 256 * 4;
    const blocks = file.subarray(end - ((256 * 512) / 256) * 66, end);
    for (let block = 0; block < blocks.length; block += 66) {
      for (const byte of blocks.subarray(block, block + 64)) {
        assert([0, 2, 4, 6].every((shift) => ((byte >> shift) & 3) < 3));
      }
      assertEquals(blocks.readUInt16LE(block + 64), 0x2600);
    }
  });

  it("keeps a complete file and replaces one of another size", () => {
    const path = join(dir, "kept.gguf");
    ensureRandomGguf(path, SHAPE, "TQ2_0");
    const { mtimeMs, size } = statSync(path);
    ensureRandomGguf(path, SHAPE, "TQ2_0");
    assertEquals(statSync(path).mtimeMs, mtimeMs);
    ensureRandomGguf(path, SHAPE, "Q4_0");
    assert(statSync(path).size > size);
  });

  it("counts the weights, one embedding row and the cache in a step", () => {
    const weights = TERNARY_BYTES + EMBEDDING_BYTES + NORM_BYTES + EMBEDDING_BYTES / 40;
    assertEquals(bytesPerStep(SHAPE, "TQ2_0", 0), weights);
    assertEquals(bytesPerStep(SHAPE, "TQ2_0", 10), weights + 10 * 2 * 128 * 2);
  });

  it("refuses unknown formats and rows that blocks do not fill", () => {
    const path = join(dir, "refused.gguf");
    assertThrows(() => ensureRandomGguf(path, SHAPE, "Q5_0"), Error, "received Q5_0");
    assertThrows(() => ensureRandomGguf(path, { ...SHAPE, hidden: 320 }, "TQ2_0"), Error, "rows of 320 weights");
  });
});
