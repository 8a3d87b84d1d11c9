import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { canonicalJson, readJsonObject, topLevelKeys } from "./json.ts";
import { assertFormatError, inFolder } from "./test_files.ts";

describe("topLevelKeys", () => {
  it("lists keys of the outermost object only, twice where they occur twice", () => {
    const json = '{"a": {"b": "x:"}, "c" : ["d", {"e": 1}], "a":"\\"f\\":", "g\\"h": "{"}';
    assertEquals(topLevelKeys(json), ["a", "c", "a", 'g"h']);
  });
});

describe("canonicalJson", () => {
  it("does not depend on the order of keys or on spaces", () => {
    assertEquals(canonicalJson({ b: [1, { d: null, c: "x" }], a: true }), '{"a":true,"b":[1,{"c":"x","d":null}]}');
    assertEquals(canonicalJson({ a: undefined, b: 1 }), '{"b":1}');
  });
});

describe("readJsonObject", () => {
  it("names the file and what is wrong with it", () =>
    inFolder((dir) => {
      const file = join(dir, "config.json");
      assertFormatError(() => readJsonObject(file), file, "it does not exist");
      assertFormatError(() => readJsonObject(dir), dir, "not a regular file");
      writeFileSync(file, "[1]");
      assertFormatError(() => readJsonObject(file), "received array, expected object");
      writeFileSync(file, "{");
      assertFormatError(() => readJsonObject(file), "Cannot parse", file);
      writeFileSync(file, Uint8Array.of(0x7b, 0xff, 0x7d));
      assertFormatError(() => readJsonObject(file), "not valid UTF-8");
      assertFormatError(() => readJsonObject(file, 2), "too large, received 3, expected at most 2 bytes");
    }));
});
