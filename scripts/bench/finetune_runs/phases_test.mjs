import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertEquals, assertRejects } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { Phases } from "./phases.mjs";

describe("Phases", () => {
  let root;
  let dir;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "apiq-phases-"));
    dir = join(root, "row");
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const never = () => Promise.reject(new Error("it ran again"));

  it("does not run again what an earlier process finished", async () => {
    assertEquals(await new Phases(dir, { seed: 0 }).once("before", async () => ({ ppl: 2 })), { ppl: 2 });
    const later = new Phases(dir, { seed: 0 });
    assertEquals(await later.once("before", never), { ppl: 2 });
    assertEquals(await later.once("after", async () => 3), 3);
  });

  it("keeps nothing of a phase that failed", async () => {
    await assertRejects(() => new Phases(dir, {}).once("before", never), Error, "it ran again");
    assertEquals(await new Phases(dir, {}).once("before", async () => 1), 1);
  });

  it("begins with an empty folder where the row has become another", async () => {
    const phases = new Phases(dir, { seed: 0 });
    await phases.once("before", async () => 1);
    writeFileSync(join(dir, "adapter"), "");
    assertEquals(await new Phases(dir, { seed: 1 }).once("before", async () => 2), 2);
    assertEquals(existsSync(join(dir, "adapter")), false);
  });
});
