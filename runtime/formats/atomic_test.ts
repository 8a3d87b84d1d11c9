import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { makeFolderAtomically, writeJson } from "./atomic.ts";
import { inFolder } from "./test_files.ts";

/** Makes `dir` with one file in it. */
const make = (dir: string, replace: boolean): Promise<void> =>
  makeFolderAtomically(dir, replace, async (temporary) => writeFileSync(join(temporary, "config.json"), "new"));

describe("writeJson", () => {
  it("writes readable JSON", () =>
    inFolder(async (dir) => {
      await writeJson(join(dir, "a.json"), { a: [1] });
      assertEquals(JSON.parse(readFileSync(join(dir, "a.json"), "utf8")), { a: [1] });
      assertEquals(readdirSync(dir), ["a.json"]);
    }));
});

describe("makeFolderAtomically", () => {
  it("makes a folder and those above it", () =>
    inFolder(async (dir) => {
      await make(join(dir, "a/b"), false);
      assertEquals(readdirSync(join(dir, "a")), ["b"]);
      assertEquals(readdirSync(join(dir, "a/b")), ["config.json"]);
    }));

  it("replaces a model's folder only when told to, and nothing else ever", () =>
    inFolder(async (dir) => {
      const model = join(dir, "model");
      await make(model, false);
      writeFileSync(join(model, "old"), "");
      await assertRejects(() => make(model, false), Error, "it exists; --force replaces it");
      await make(model, true);
      assertEquals(existsSync(join(model, "old")), false);
      const other = join(dir, "other");
      mkdirSync(other);
      writeFileSync(join(other, "letter.txt"), "");
      await assertRejects(() => make(other, true), Error, "neither empty nor a model's folder");
      assertEquals(readdirSync(dir).sort(), ["model", "other"]);
    }));

  it("leaves what was there when it fails", () =>
    inFolder(async (dir) => {
      const model = join(dir, "model");
      await make(model, false);
      await assertRejects(
        () =>
          makeFolderAtomically(model, true, async (temporary) => {
            writeFileSync(join(temporary, "half"), "");
            throw new Error("interrupted");
          }),
        Error,
        "interrupted",
      );
      assertEquals(readdirSync(dir), ["model"]);
      assertEquals(readFileSync(join(model, "config.json"), "utf8"), "new");
    }));
});
