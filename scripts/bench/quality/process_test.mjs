import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
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

  it("fails with the last line of standard error and the status", async () => {
    const error = await assertRejects(() => shell("echo begun >&2; echo 'error: no room' >&2; exit 3"), CommandError);
    assertStringIncludes(error.message, "error: no room, received 3");
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
