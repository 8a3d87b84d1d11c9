import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { FormatError } from "./failure.ts";
import { openGguf } from "./gguf.ts";
import { assertFormatError, inFolder } from "./test_files.ts";
import { type GgufEntry, type GgufField, writeGguf } from "./test_gguf.ts";

const F32 = 0;
const Q4_1 = 3;
const NORM: GgufEntry = { name: "output_norm.weight", dims: [4], type: F32, data: new Uint8Array(16) };
const MATRIX: GgufEntry = { name: "output.weight", dims: [64, 3], type: Q4_1, data: new Uint8Array(120) };

const refuses = (metadata: Record<string, GgufField>, tensors: GgufEntry[], ...parts: string[]): Promise<void> =>
  inFolder((dir) => {
    const path = join(dir, "a.gguf");
    writeGguf(path, { metadata, tensors });
    assertFormatError(() => openGguf(path), path, ...parts);
  });

describe("openGguf", () => {
  it("reads metadata and tensors of versions 2 and 3", () =>
    inFolder((dir) => {
      const path = join(dir, "a.gguf");
      const array = { type: 9, bytes: Uint8Array.of(0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 8) };
      for (const version of [2, 3]) {
        const metadata = { "general.name": "é", "a.count": 5, "a.real": { f32: 0.5 }, "a.list": array };
        writeGguf(path, { version, metadata, tensors: [NORM, MATRIX] });
        const gguf = openGguf(path);
        assertEquals(Object.fromEntries(gguf.metadata), {
          "general.name": "é",
          "a.count": 5,
          "a.real": 0.5,
          "a.list": [7, 8],
        });
        const [norm, matrix] = gguf.tensors;
        assertEquals([norm?.shape, norm?.type, norm?.bytes], [[4], "F32", 16]);
        assertEquals([matrix?.shape, matrix?.type, matrix?.bytes], [[3, 64], "Q4_1", 120]);
        assertEquals(matrix!.offset - norm!.offset, 32);
      }
    }));

  itShared("reads a real model's head", () => {
    const { metadata, tensors } = openGguf(sharedPath("models/SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf"));
    assertEquals(tensors.length, 272);
    assertEquals(metadata.get("llama.block_count"), 30);
    assertEquals((metadata.get("tokenizer.ggml.tokens") as string[]).length, 49152);
  });

  it("refuses other files, versions and byte orders", () =>
    inFolder((dir) => {
      const path = join(dir, "a.gguf");
      assertFormatError(() => openGguf(path), path, "it does not exist");
      assertFormatError(() => openGguf(dir), dir, "not a regular file");
      writeFileSync(path, "PK\x03\x04 something else");
      assertFormatError(() => openGguf(path), "not a GGUF file");
      writeGguf(path, { version: 1, metadata: {}, tensors: [] });
      assertFormatError(() => openGguf(path), "unknown GGUF version at byte 8, received 1, expected 2 or 3");
      writeGguf(path, { version: 0x3000000, metadata: {}, tensors: [] });
      assertFormatError(() => openGguf(path), "big-endian");
    }));

  it("refuses tensors that cannot be", async () => {
    await refuses({}, [{ ...MATRIX, type: 12 }], 'tensor "output.weight"', "unsupported type, received Q4_K");
    await refuses({}, [{ ...MATRIX, type: 999 }], "received type 999");
    await refuses({}, [{ ...MATRIX, dims: [48, 3] }], "rows do not fill whole blocks, received 48");
    await refuses({}, [{ ...MATRIX, dims: [] }], "bad number of dimensions");
    await refuses({}, [{ ...MATRIX, dims: [64, 0] }], "bad shape, received [0,64]");
    await refuses({}, [{ ...MATRIX, dims: [2 ** 40, 2 ** 40] }], "bad shape");
    await refuses({}, [{ ...MATRIX, dims: [64, 64] }], "reaches past the end of the file");
    await refuses({}, [NORM, NORM], "occurs twice");
    await refuses({}, [{ ...NORM, dims: [16] }, MATRIX], "it overlaps another tensor");
  });

  it("refuses metadata that cannot be", async () => {
    const count = new Uint8Array(12);
    new DataView(count.buffer).setUint32(0, 8, true);
    new DataView(count.buffer).setBigUint64(4, 2n ** 60n, true);
    await refuses({ a: { type: 9, bytes: count } }, [], "length of an array does not fit the file");
    await refuses(
      { a: { type: 8, bytes: new Uint8Array(8).fill(0x7f) } },
      [],
      "length of a string does not fit the file",
    );
    await refuses({ a: { type: 13, bytes: new Uint8Array(8) } }, [], "unknown type of a metadata value", "received 13");
    await refuses({ "general.alignment": 12 }, [NORM], "bad general.alignment");
    await refuses({ "general.alignment": 64 }, [NORM, MATRIX], "the offset is not aligned, received 32");
  });

  it("never crashes on a head that is cut or changed", () =>
    inFolder((dir) => {
      const path = join(dir, "a.gguf");
      writeGguf(path, { metadata: { "general.name": "x", "a.real": { f32: 1 } }, tensors: [NORM, MATRIX] });
      const original = readFileSync(path);
      const open = (): void => {
        try {
          for (const { offset, bytes } of openGguf(path).tensors) assert(offset + bytes <= original.length);
        } catch (error) {
          assert(error instanceof FormatError, String(error));
        }
      };
      const head = original.length - 160;
      for (let at = 0; at < head; at++) {
        for (const flip of [1, 0x80]) {
          const bytes = Uint8Array.from(original);
          bytes[at]! ^= flip;
          writeFileSync(path, bytes);
          open();
        }
      }
      writeFileSync(path, original);
      for (let length = original.length - 1; length >= 0; length--) {
        truncateSync(path, length);
        open();
      }
    }));
});
