import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { ApiKeys } from "./api_keys.ts";

describe("ApiKeys", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-keys-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const read = (text: string): ApiKeys | undefined => ApiKeys.read(file("keys", text), undefined);

  it("knows the keys of its file and nobody else", () => {
    const keys = read("# two clients\n0123456789abcdef\n\n  another-long-key-1  web\n");
    assertEquals(keys?.find("Bearer 0123456789abcdef"), { name: "key-2", admin: false });
    assertEquals(keys?.find("bearer another-long-key-1"), { name: "web", admin: false });
    for (const header of [
      undefined,
      "",
      "Bearer",
      "Bearer ",
      "0123456789abcdef",
      "Bearer 0123456789abcde",
      "Bearer 0123456789abcdef extra",
      "Bearer web",
      "Basic 0123456789abcdef",
    ]) {
      assertEquals(keys?.find(header), undefined, String(header));
    }
  });

  it("takes hashes for keys, and not as keys", () => {
    const sha256 = createHash("sha256").update("a secret that is not here").digest("hex");
    const keys = read(`sha256:${sha256.toUpperCase()} web\n`);
    assertEquals(keys?.find("Bearer asecret"), undefined);
    assertEquals(keys?.find(`Bearer sha256:${sha256}`), undefined);
    const plain = createHash("sha256").update("0123456789abcdef").digest("hex");
    assertEquals(read(`sha256:${plain} web`)?.find("Bearer 0123456789abcdef")?.name, "web");
  });

  it("keeps admins apart", () => {
    const keys = ApiKeys.read(file("users", "user-key-of-16-c\n"), file("admins", "admin-key-of-16-c root\n"));
    assertEquals(keys?.find("Bearer user-key-of-16-c")?.admin, false);
    assertEquals(keys?.find("Bearer admin-key-of-16-c"), { name: "root", admin: true });
    assertEquals(ApiKeys.read(undefined, undefined), undefined);
  });

  it("refuses a file without keys, and lines that are none, without showing them", () => {
    assertThrows(() => read("# nothing\n"), Error, "received no keys");
    for (const [line, message] of [
      ["secret-short", "line 2: received a key of 12 characters, expected at least 16"],
      ["sha256:secret-short", "a hash of 12 characters"],
      ["secret-short-but-not-so web and more", "received 4 words"],
      ["0123456789abcdef secret-short!", "at most 64 letters"],
    ]) {
      const error = assertThrows(() => read(`# keys\n${line}\n`), Error, message) as Error;
      assertEquals(error.message.includes("secret"), false, error.message);
    }
  });
});
