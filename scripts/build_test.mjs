import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isStale } from "./build.mjs";

/** Sources with one file of the given age, and the stamp of a build. */
function withSources(modified, stamp, check) {
  const dir = mkdtempSync(join(tmpdir(), "apiq-build-"));
  try {
    const source = join(dir, "kernel.cpp");
    writeFileSync(source, "");
    utimesSync(source, modified, modified);
    const stampPath = join(tmpdir(), `${dir.split("/").at(-1)}.built`);
    if (stamp !== null) writeFileSync(stampPath, stamp);
    check(dir, stampPath);
    rmSync(stampPath, { force: true });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const EARLIER = new Date("2026-01-01T10:00:00Z");
const LATER = new Date("2026-01-01T12:00:00Z");
const STAMP = "2026-01-01T11:00:00.000Z\n";

test("sources older than the build leave it as it is", () => {
  withSources(EARLIER, STAMP, (sources, stamp) => expect(isStale(sources, stamp)).toBe(false));
});

test("a source that changed after the build makes it stale", () => {
  withSources(LATER, STAMP, (sources, stamp) => expect(isStale(sources, stamp)).toBe(true));
});

test("no build, or a stamp that says nothing, is stale", () => {
  withSources(EARLIER, null, (sources, stamp) => expect(isStale(sources, stamp)).toBe(true));
  withSources(EARLIER, "half a sta", (sources, stamp) => expect(isStale(sources, stamp)).toBe(true));
});
