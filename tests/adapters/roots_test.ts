import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { AdapterError, type AdapterRefusal } from "../../runtime/adapters/failure.ts";
import { AdapterRoots } from "../../runtime/adapters/roots.ts";

let folder: string;

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "apiq-roots-")));
  for (const dir of ["root/a", "root/deep/b", "root/escaping", "rooted", "outside", "second/c"]) {
    mkdirSync(join(folder, dir), { recursive: true });
  }
  writeFileSync(join(folder, "outside", "secret"), "");
  symlinkSync(join(folder, "root"), join(folder, "link"));
  symlinkSync(join(folder, "outside"), join(folder, "root", "out"));
  symlinkSync("deep/b", join(folder, "root", "inside"));
  symlinkSync(join(folder, "outside", "secret"), join(folder, "root", "escaping", "adapter_config.json"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const open = (...dirs: string[]) => AdapterRoots.open(dirs.map((dir) => join(folder, dir)));

async function assertRefused(roots: AdapterRoots, path: string, reason: AdapterRefusal): Promise<string> {
  const error = (await assertRejects(() => roots.resolve(path), AdapterError)) as AdapterError;
  assertEquals(error.reason, reason, path);
  return error.message;
}

describe("AdapterRoots", () => {
  it("finds folders in them, by absolute and by relative paths, and follows links that stay inside", async () => {
    const roots = await open("root", "second");
    const at = (path: string) => join(folder, path);
    assertEquals(await roots.resolve(at("root/a")), at("root/a"));
    assertEquals(await roots.resolve("deep/../a/"), at("root/a"));
    assertEquals(await roots.resolve("inside"), at("root/deep/b"));
    assertEquals(await roots.resolve("c"), at("second/c"));
    const linked = await open("link");
    for (const path of [at("link/a"), at("root/a"), "a"]) assertEquals(await linked.resolve(path), at("root/a"));
  });

  it("refuses what is outside, however it is written", async () => {
    const roots = await open("root");
    const paths = ["outside", "rooted", "root/../outside", "nowhere", "root/out"].map((path) => join(folder, path));
    const strange = ["..", "../outside", "out", "/", "/etc/passwd", "a\0b", `a/${"x".repeat(5000)}`, "escaping"];
    for (const path of [...paths, `${folder}/root/../outside`, ...strange]) await assertRefused(roots, path, "outside");
    assertStringIncludes(await assertRefused(roots, "..", "outside"), "--adapter-root");
  });

  it("says what is missing inside, and that nothing is allowed where there are none", async () => {
    await assertRefused(await open("root"), "nowhere", "no_folder");
    assertStringIncludes(await assertRefused(await open(), "a", "no_roots"), "--adapter-root DIR");
    await assertRejects(() => open("root/nowhere"), Error, "it is not a folder");
    await assertRejects(() => open("outside/secret"), Error, "it is not a folder");
  });
});
