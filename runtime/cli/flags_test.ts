import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Command, UsageError } from "./command.ts";
import { kebabCase, parseArguments } from "./flags.ts";

const COMMAND: Pick<Command, "flags" | "positionals"> = {
  flags: {
    model: { type: "string", summary: "", required: true },
    device: { type: "string", summary: "", choices: ["auto", "cpu"], default: "auto" },
    maxSequences: { type: "integer", summary: "", default: 8, min: 1, max: 100 },
    temperature: { type: "number", summary: "", min: -2 },
    kvMemory: { type: "bytes", summary: "", default: "4K" },
    adapter: { type: "string", summary: "", multiple: true },
    json: { type: "boolean", summary: "" },
  },
  positionals: [{ name: "FILE", summary: "" }],
};

const parse = (line: string) => parseArguments(COMMAND, line.split(" ").filter(Boolean));

describe("parseArguments", () => {
  it("reads values in both forms, switches, repeated flags and positionals", () => {
    const line = "--model=a=b x --max-sequences 3 --temperature -1.5 --adapter p=q --kv-memory 2G --adapter r=s --json";
    assertEquals<unknown>(parse(line), {
      flags: {
        model: "a=b",
        device: "auto",
        maxSequences: 3,
        temperature: -1.5,
        kvMemory: 2 * 2 ** 30,
        adapter: ["p=q", "r=s"],
        json: true,
      },
      given: new Set(["model", "maxSequences", "temperature", "adapter", "kvMemory", "json"]),
      positionals: ["x"],
    });
  });

  it("fills in defaults, and leaves the rest undefined", () => {
    const { flags } = parse("--model m --no-json");
    assertEquals<unknown>(flags, {
      model: "m",
      device: "auto",
      maxSequences: 8,
      temperature: undefined,
      kvMemory: 4096,
      adapter: [],
      json: false,
    });
  });

  it("leaves an undecided switch undefined unless it is said or denied", () => {
    const command = { flags: { warm: { type: "boolean", summary: "", undecided: true } } } as const;
    const read = (...args: string[]) => parseArguments(command, args).flags.warm as unknown;
    assertEquals([read(), read("--warm"), read("--no-warm")], [undefined, true, false]);
  });

  it("takes everything after -- as positional", () => {
    assertEquals(parse("--model m -- --json").positionals, ["--json"]);
  });

  it("refuses what it cannot use, and says what it expected", () => {
    const refusals: readonly (readonly [line: string, message: string])[] = [
      ["--modle m", "Unknown flag --modle (did you mean --model?)"],
      ["--model m --zzz", "Unknown flag --zzz"],
      ["-m m", "Unknown flag -m"],
      ["--json", "Missing --model TEXT"],
      ["--model", "Missing value for --model"],
      ["--model --json", "Missing value for --model"],
      ["--model m --model n", "Cannot give --model more than once"],
      ["--model m --json=yes", "the flag takes no value"],
      ["--model m --device cup", 'received "cup", expected one of auto, cpu (did you mean cpu?)'],
      ["--model m --max-sequences 0", 'received "0", expected a whole number, at least 1'],
      ["--model m --max-sequences 1e3", "at most 100"],
      ["--model m --max-sequences 1.5", "expected a whole number"],
      ["--model m --temperature warm", 'received "warm", expected a number'],
      ["--model m --kv-memory lots", "expected a size such as 512M or 2G"],
      ["--model m x y", 'Unexpected argument "y"'],
    ];
    for (const [line, message] of refusals) assertThrows(() => parse(line), UsageError, message);
  });

  it("demands positionals that are required", () => {
    const command = { flags: {}, positionals: [{ name: "FILE", summary: "what to read", required: true }] } as const;
    assertThrows(() => parseArguments(command, []), UsageError, "Missing FILE (what to read)");
  });
});

describe("kebabCase", () => {
  it("writes a flag as on the command line", () => {
    assertEquals(kebabCase("maxSequences"), "max-sequences");
  });
});
