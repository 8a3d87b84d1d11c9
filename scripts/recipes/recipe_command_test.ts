import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { repositoryRoot } from "../../tests/shared.ts";

const BUN = `${repositoryRoot}node_modules/bun/bin/bun.exe`;

/** Says every signal that reaches it, and ends with 3 a while after the first. */
const CHILD = `
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => {
  console.log(name);
  setTimeout(() => process.exit(3), 300);
});
setTimeout(() => {}, 60_000);
console.log("ready");
`;

/** A recipe that hears signals later than the script does: two that come at once can reach it as one. */
const PARENT = `
import { runCommand, runScript } from ${JSON.stringify(join(import.meta.dirname!, "recipe_command.ts"))};
process.on("SIGINT", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100));
const run = ({ signal }) => runScript(process.argv[1].replace("parent", "child"), [], signal);
process.exit(await runCommand("parent.ts", { name: "parent.ts", summary: "", flags: {}, run }));
`;

/** What a script says that a recipe runs, and the recipe's exit code. @param send given the recipe's process id */
async function runUntil(send: (pid: number) => void): Promise<readonly (string | number | null)[]> {
  const dir = mkdtempSync(join(tmpdir(), "apiq-recipe-"));
  writeFileSync(join(dir, "child.ts"), CHILD);
  writeFileSync(join(dir, "parent.ts"), PARENT);
  try {
    // A group of its own, as a terminal makes one for a command.
    const stdio = ["ignore", "pipe", "inherit"] as const;
    const parent = spawn(BUN, [join(dir, "parent.ts")], { stdio: [...stdio], detached: true });
    const closed = once(parent, "close");
    const lines: string[] = [];
    for await (const line of createInterface({ input: parent.stdout! })) {
      if (line === "ready") send(parent.pid!);
      else lines.push(line);
    }
    const [code] = (await closed) as [number | null];
    return [...lines, code];
  } finally {
    rmSync(dir, { recursive: true });
  }
}

describe("a script that a recipe runs", () => {
  it("gets Ctrl-C once", async () => {
    assertEquals(await runUntil((pid) => process.kill(-pid, "SIGINT")), ["SIGINT", 3]);
  });

  it("gets a SIGTERM that the recipe gets", async () => {
    assertEquals(await runUntil((pid) => process.kill(pid, "SIGTERM")), ["SIGTERM", 3]);
  });
});
