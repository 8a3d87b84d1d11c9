import { readFileSync } from "node:fs";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import * as constants from "./constants.ts";
import { libraryPath, loadLibrary } from "./library.ts";
import { FUNCTIONS, STRUCTS } from "./symbols.ts";

const include = (name: string) => readFileSync(new URL(`../kernels/include/${name}`, import.meta.url), "utf8");

const header = include("apiq.h")
  .replace('#include "apiq_training.h"', include("apiq_training.h"))
  .replace(/\/\*[\s\S]*?\*\//g, "")
  .replace(/\s+/g, " ");

type Struct = [name: string, fields: [field: string, type: string][]];

function headerFunctions(): Record<string, string> {
  const declarations = header.matchAll(/APIQ_API (\w+) (\w+)\(([^)]*)\);/g);
  return Object.fromEntries(
    [...declarations].map(([, result, name, parameters]) => [name, `${result} (${parameters})`]),
  );
}

function headerStructs(): Struct[] {
  return [...header.matchAll(/typedef struct (\w+) \{([^}]*)\} \1;/g)].map(([, name, body]) => [
    name!,
    [...body!.matchAll(/(\w+) (\w+)(\[\d+\])?;/g)].map(([, type, field, length = ""]) => [field!, `${type}${length}`]),
  ]);
}

function headerConstants(): Record<string, number> {
  const bodies = [...header.matchAll(/enum \{([^}]*)\}/g)].map(([, body]) => body!).join(",");
  return Object.fromEntries(
    [...bodies.matchAll(/APIQ_(\w+) = (\d+)/g)].map(([, name, value]) => [name, Number(value)]),
  );
}

describe("symbols", () => {
  it("declare the functions of apiq.h, with its types", () => {
    assert(Object.keys(headerFunctions()).length > 30);
    assertEquals({ ...FUNCTIONS } as Record<string, string>, headerFunctions());
  });

  it("declare the structs of apiq.h, field by field in order", () => {
    const expected = headerStructs();
    assert(expected.length > 20);
    const actual = Object.entries(STRUCTS).map(([name, fields]): Struct => [name, Object.entries(fields)]);
    assertEquals(actual, expected);
  });

  it("declare every enumerator of apiq.h with its value", () => {
    const { STATUS, ABI_VERSION, ...others } = constants;
    assertEquals({ ...STATUS, ...others } as Record<string, number>, headerConstants());
    assertEquals(ABI_VERSION, Number(/#define APIQ_ABI_VERSION (\d+)u/.exec(header)?.[1]));
  });

  it("are all in the CPU library", () => {
    const native = loadLibrary(libraryPath("cpu"));
    for (const [name, declaration] of Object.entries(FUNCTIONS)) {
      const parameters = declaration.endsWith("(void)") ? [] : declaration.split(",");
      // No context has the handle 0 and every address is null: the call is refused, unless the function is absent.
      const call = native[name as keyof typeof FUNCTIONS] as (...values: (number | null)[]) => number;
      const status = call(...parameters.map((parameter) => (parameter.includes("*") ? null : 0)));
      assert(
        parameters.length === 0 || status !== constants.STATUS.OK,
        `${name} accepted a context that does not exist`,
      );
    }
  });
});
