import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CommandError, runForJson } from "./process.mjs";

const shell = (script, options) => runForJson("sh", ["-c", script], { cwd: ".", ...options });

describe("runForJson", () => {
  it("gives the answer, the time and the lines of standard error", async () => {
    const lines = [];
    const { answer, seconds } = await shell(`echo one >&2; printf 'two\\rthree\\n' >&2; echo '{"ppl":2}'`, {
      onLine: (line) => lines.push(line),
    });
    assertEquals([answer, lines, seconds > 0], [{ ppl: 2 }, ["one", "two", "three"], true]);
  });

  it("tells how long it computed, not how long it waited", async () => {
    const spin = "const end = Date.now() + 900; while (Date.now() < end); console.log(0)";
    const busy = await runForJson(process.execPath, ["-e", spin], { cwd: "." });
    const idle = await shell("sleep 0.7; echo 0");
    assert(idle.cpuSeconds < 0.2, `${idle.cpuSeconds}`);
    assert(busy.cpuSeconds > 0.05 && busy.cpuSeconds < busy.seconds + 0.1, `${busy.cpuSeconds} of ${busy.seconds}`);
  });

  it("fails with the error on standard error, or its last line, and the status", async () => {
    const error = await assertRejects(() => shell("echo begun >&2; echo 'error: no room' >&2; exit 3"), CommandError);
    assertStringIncludes(error.message, "error: no room, received 3");
    const usage = await assertRejects(() => shell("echo 'error: no flag' >&2; echo Try --help >&2; exit 2"));
    assertStringIncludes(usage.message, "error: no flag, received 2");
  });

  it("fails where a program cannot be started or answers with something else", async () => {
    await assertRejects(
      () => runForJson("apiq-no-such-program", [], { cwd: "." }),
      CommandError,
      "Cannot finish apiq-no-such-program",
    );
    await assertRejects(() => shell("echo hello"), CommandError, "its answer is hello");
  });
});
