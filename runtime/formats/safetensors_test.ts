import { readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { FormatError } from "./failure.ts";
import { readBytes, readInts, readTensor } from "./read.ts";
import { isAligned, openSafetensors } from "./safetensors.ts";
import { writeSafetensors } from "./safetensors_writer.ts";
import { assertFormatError, inFolder, writeRawSafetensors } from "./test_files.ts";

const F32_4 = { dtype: "F32", shape: [4], data_offsets: [0, 16] };

/** Opening a file of this header and this much data must fail, naming the file and `parts`. */
const refuses = (header: unknown, dataBytes: number, ...parts: string[]): Promise<void> =>
  inFolder((dir) => {
    const path = join(dir, "model.safetensors");
    writeRawSafetensors(path, header, dataBytes);
    assertFormatError(() => openSafetensors(path), path, ...parts);
  });

describe("openSafetensors", () => {
  it("finds tensors, metadata and offsets", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      const header = {
        __metadata__: { format: "pt" },
        a: F32_4,
        b: { dtype: "BF16", shape: [], data_offsets: [16, 18] },
      };
      writeRawSafetensors(path, header, 18);
      const { tensors, metadata, bytes } = openSafetensors(path);
      const start = bytes - 18;
      assertEquals(metadata, { format: "pt" });
      assertEquals(tensors.get("a"), { name: "a", path, dtype: "F32", shape: [4], offset: start, bytes: 16 });
      assertEquals(tensors.get("b")?.offset, start + 16);
    }));

  it("says whether elements lie at multiples of their size", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      const entry = JSON.stringify({ a: F32_4 });
      for (const padding of [0, 1, 2, 3]) {
        writeRawSafetensors(path, entry + " ".repeat(padding), 16);
        assertEquals(isAligned(openSafetensors(path).tensors.get("a")!), (entry.length + padding) % 4 === 0);
      }
    }));

  it("refuses files that are too short", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      assertFormatError(() => openSafetensors(path), path, "ENOENT");
      assertFormatError(() => openSafetensors(dir), dir);
      writeFileSync(path, "1234567");
      assertFormatError(() => openSafetensors(path), "truncated, received 7 bytes, expected at least 8");
      writeRawSafetensors(path, { a: F32_4 }, 16);
      truncateSync(path, 20);
      assertFormatError(() => openSafetensors(path), "header length does not fit the file");
      writeRawSafetensors(path, { a: F32_4 }, 15);
      assertFormatError(() => openSafetensors(path), 'tensor "a"', "reach outside the file");
    }));

  it("refuses absurd header lengths without reading them", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      for (const length of [0n, 1n, 100_000_001n, 2n ** 63n]) {
        const file = new Uint8Array(64);
        new DataView(file.buffer).setBigUint64(0, length, true);
        writeFileSync(path, file);
        assertFormatError(() => openSafetensors(path), "header length does not fit the file", `${Number(length)}`);
      }
    }));

  it("refuses headers that are no JSON object", async () => {
    await refuses("{]", 0, "Cannot parse");
    await refuses("[]", 0, "received array, expected object");
    await refuses({ __metadata__: { a: 1 } }, 0, "must map strings to strings, received number");
    await refuses({ __metadata__: "x" }, 0, "must map strings to strings");
  });

  it("refuses a name that occurs twice", () =>
    refuses(`{"a":${JSON.stringify(F32_4)},"a":${JSON.stringify(F32_4)}}`, 16, 'tensor "a"', "occurs twice"));

  it("refuses entries that contradict themselves", async () => {
    const entries: [object | string, string][] = [
      ["x", "received string, expected object"],
      [{ ...F32_4, dtype: "F31" }, "unknown dtype, received F31"],
      [{ ...F32_4, dtype: "toString" }, "unknown dtype, received toString"],
      [{ ...F32_4, dtype: undefined }, "unknown dtype, received none"],
      [{ ...F32_4, shape: [5] }, "received 16 bytes, expected 20 for F32 [5]"],
      [{ ...F32_4, shape: [-4] }, "bad shape, received [-4]"],
      [{ ...F32_4, shape: [1.5] }, "bad shape"],
      [{ ...F32_4, shape: ["4"] }, "bad shape"],
      [{ ...F32_4, shape: [2 ** 31, 2 ** 31] }, "bad shape"],
      [{ ...F32_4, shape: 4 }, "bad shape, received 4"],
      [{ ...F32_4, data_offsets: [0] }, "bad data_offsets"],
      [{ ...F32_4, data_offsets: [0.5, 16.5] }, "bad data_offsets"],
      [{ ...F32_4, data_offsets: [-8, 8] }, "reach outside the file"],
      [{ ...F32_4, data_offsets: [16, 0] }, "reach outside the file"],
      [{ ...F32_4, data_offsets: [0, 2 ** 52] }, "reach outside the file"],
    ];
    for (const [entry, part] of entries) await refuses({ a: entry }, 16, 'tensor "a"', part);
  });

  it("refuses overlaps, holes and data that no tensor covers", async () => {
    const at = (begin: number): object => ({ dtype: "F32", shape: [4], data_offsets: [begin, begin + 16] });
    await refuses({ a: at(0), b: at(8) }, 24, 'tensor "b"', "overlaps", "received begin 8, expected 16");
    await refuses({ a: at(0), b: at(20) }, 36, 'tensor "b"', "hole before it");
    await refuses({ a: at(4) }, 20, 'tensor "a"', "hole before it");
    await refuses({ a: at(0) }, 20, "do not cover the data");
  });

  it("never crashes on a header with single bytes changed", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      writeRawSafetensors(path, { a: F32_4, b: { dtype: "I32", shape: [2, 2], data_offsets: [16, 32] } }, 32);
      const original = readFileSync(path);
      let refused = 0;
      for (let at = 0; at < original.length - 32; at++) {
        for (const flip of [1, 16, 0x80]) {
          const bytes = Uint8Array.from(original);
          bytes[at]! ^= flip;
          writeFileSync(path, bytes);
          try {
            const { tensors } = openSafetensors(path);
            for (const { offset, bytes } of tensors.values()) assert(offset >= 8 && offset + bytes <= original.length);
          } catch (error) {
            assert(error instanceof FormatError, String(error));
            refused++;
          }
        }
      }
      assert(refused > 100);
    }));
});

describe("writeSafetensors", () => {
  it("writes what openSafetensors reads, aligned, data in pieces or at once", () =>
    inFolder(async (dir) => {
      const path = join(dir, "a.safetensors");
      const ints = Int32Array.of(1, -2, 3);
      const pieces = [Uint8Array.of(0x00, 0x3c), Uint8Array.of(0x00, 0xc0)];
      const hashes = await writeSafetensors(
        path,
        [
          { name: "half", dtype: "F16", shape: [2], data: () => pieces },
          { name: "byte", dtype: "U8", shape: [1], data: Uint8Array.of(7) },
          { name: "ints", dtype: "I32", shape: [3, 1], data: new Uint8Array(ints.buffer) },
          { name: "empty", dtype: "F32", shape: [0, 4], data: new Uint8Array(0) },
        ],
        { made_by: "test" },
      );
      const { tensors, metadata } = openSafetensors(path);
      assertEquals(metadata, { format: "pt", made_by: "test" });
      assertEquals(readInts(tensors.get("ints")!), ints);
      assertEquals(readTensor(tensors.get("half")!), Float32Array.of(1, -2));
      assertEquals(readBytes(tensors.get("byte")!), Uint8Array.of(7));
      assert([...tensors.values()].every(isAligned));
      assertEquals(hashes.map(({ name }) => name).sort(), ["byte", "empty", "half", "ints"]);
      assertEquals(new Set(hashes.map(({ sha256 }) => sha256)).size, 4);
    }));

  it("leaves the old file and nothing else when it fails", () =>
    inFolder(async (dir) => {
      const path = join(dir, "a.safetensors");
      writeFileSync(path, "old");
      const tensor = { name: "a", dtype: "F32", shape: [2], data: new Uint8Array(4) } as const;
      await assertRejects(() => writeSafetensors(path, [tensor]), FormatError, "received 4, expected 8 bytes");
      const twice = { ...tensor, data: new Uint8Array(8) };
      await assertRejects(() => writeSafetensors(path, [twice, twice]), FormatError, "occurs twice");
      assertEquals(readFileSync(path, "utf8"), "old");
      assertEquals(readdirSync(dir), ["a.safetensors"]);
    }));
});

describe("readTensor", () => {
  it("refuses dtypes it does not convert and files that shrank", () =>
    inFolder((dir) => {
      const path = join(dir, "a.safetensors");
      writeRawSafetensors(path, { a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, 8);
      const tensor = openSafetensors(path).tensors.get("a")!;
      assertFormatError(() => readTensor(tensor), 'tensor "a"', "wrong dtype, received I64");
      assertFormatError(() => readInts(tensor), "received I64, expected I32");
      truncateSync(path, tensor.offset + 3);
      assertFormatError(() => readBytes(tensor), "truncated, received 3 bytes, expected 8");
    }));
});
