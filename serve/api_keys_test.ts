import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { ApiKeys } from "./api_keys.ts";

describe("ApiKeys", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-keys-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const read = (text: string): ApiKeys => {
    const path = join(folder, "keys");
    writeFileSync(path, text);
    return ApiKeys.read(path);
  };

  it("accepts the keys of its file and nothing else", () => {
    const keys = read("# two clients\n0123456789abcdef\n\n  another-long-key-1  \n");
    assertEquals(keys.accepts("Bearer 0123456789abcdef"), true);
    assertEquals(keys.accepts("bearer another-long-key-1"), true);
    for (const header of [
      undefined,
      "",
      "Bearer",
      "Bearer ",
      "0123456789abcdef",
      "Bearer 0123456789abcde",
      "Bearer 0123456789abcdef extra",
      "Basic 0123456789abcdef",
    ]) {
      assertEquals(keys.accepts(header), false, String(header));
    }
  });

  it("refuses a file without keys, and short keys without showing them", () => {
    assertThrows(() => read("# nothing\n"), Error, "received no keys");
    const error = assertThrows(() => read("secret-short\n"), Error, "has 12 characters") as Error;
    assertEquals(error.message.includes("secret-short"), false);
  });
});
