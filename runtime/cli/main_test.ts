import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { defineCommand, UsageError } from "./command.ts";
import { runProgram } from "./main.ts";
import { Output } from "./output.ts";

const greet = defineCommand({
  name: "greet",
  summary: "say hello",
  flags: { times: { type: "integer", summary: "how often", default: 1 } },
  positionals: [{ name: "NAME", summary: "whom", required: true }],
  examples: ["test greet you"],
  async run({ flags, positionals, out }) {
    for (let i = 0; i < flags.times; i++) out.line(`Hello ${positionals[0]}`);
    return 0;
  },
});
const failing = defineCommand({
  name: "eval nll",
  summary: "fail",
  flags: { badly: { type: "boolean", summary: "as a matter of usage" } },
  async run({ flags }) {
    throw flags.badly ? new UsageError("used badly") : new Error("went wrong");
  },
});

async function run(line: string, isTTY = false, environment: Record<string, string> = {}) {
  const text = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    isTTY,
    write: (piece: string) => {
      text[name] += piece;
    },
  });
  const program = { name: "test", summary: "a test", version: "1.2.3", commands: [greet, failing] };
  const out = new Output(sink("stdout"), sink("stderr"), environment);
  const code = await runProgram(program, line.split(" ").filter(Boolean), out, new AbortController().signal);
  return { code, ...text };
}

describe("runProgram", () => {
  it("runs a command with its flags and positionals", async () => {
    assertEquals(await run("greet you --times 2"), { code: 0, stdout: "Hello you\nHello you\n", stderr: "" });
  });

  it("prints the version and help on standard output", async () => {
    assertEquals((await run("--version")).stdout, "test 1.2.3\n");
    for (const line of ["--help", "-h", "help"]) {
      const { code, stdout } = await run(line);
      assertEquals(code, 0);
      assertStringIncludes(stdout, "greet     say hello");
    }
    const help = await run("greet --times nonsense --help");
    assertEquals([help.code, help.stderr], [0, ""]);
    for (const part of ["Usage: test greet NAME [--flags]", "--times N  how often (default 1)", "test greet you"]) {
      assertStringIncludes(help.stdout, part);
    }
    assertStringIncludes((await run("eval --help")).stdout, "eval nll");
    assertEquals((await run("greet -- --help")).stdout, "Hello --help\n");
  });

  it("ends with 2 and a hint for arguments that cannot be used, with 1 for a failure", async () => {
    const cases: readonly (readonly [line: string, code: number, message: string])[] = [
      ["gret", 2, 'error: Unknown command "gret" (did you mean greet?)\nTry test --help\n'],
      ["--modle", 2, 'Unknown flag "--modle"'],
      ["eval", 2, "Missing what to eval: expected one of nll"],
      ["eval nil", 2, 'Unknown command "eval nil" (did you mean eval nll?)'],
      ["greet you --tims 2", 2, "Unknown flag --tims (did you mean --times?)\nTry test greet --help\n"],
      ["eval nll --badly", 2, "error: used badly\n"],
      ["eval nll", 1, "error: went wrong\n"],
    ];
    for (const [line, code, message] of cases) {
      const result = await run(line);
      assertEquals([result.code, result.stdout], [code, ""]);
      assertStringIncludes(result.stderr, message);
    }
    assertEquals((await run("")).code, 2);
  });

  it("uses colours on a terminal only, and not where NO_COLOR is set", async () => {
    const isColoured = (text: string) => text.includes("\x1b[");
    assert(isColoured((await run("--help", true)).stdout));
    assert(isColoured((await run("eval nll", true)).stderr));
    assert(!isColoured((await run("--help")).stdout));
    assert(!isColoured((await run("--help", true, { NO_COLOR: "1" })).stdout));
  });
});
