import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { shapeOf, structBytes } from "./layout.ts";
import { STRUCTS, type StructName } from "./symbols.ts";

/** A program that compiles only if the compiler lays the header's structs out as layout.ts does. */
function layoutAssertions(): string {
  const lines = ["#include <stddef.h>", '#include "apiq.h"'];
  for (const name of Object.keys(STRUCTS) as StructName[]) {
    const shape = shapeOf(name);
    lines.push(`static_assert(sizeof(${name}) == ${shape.bytes}, "size of ${name}");`);
    if (shape.kind !== "struct") continue;
    for (const field of shape.fields) {
      lines.push(`static_assert(offsetof(${name}, ${field.name}) == ${field.offset}, "${name}.${field.name}");`);
    }
  }
  return lines.join("\n");
}

describe("layout", () => {
  it("agrees with the C++ compiler about every size and offset", () => {
    const include = fileURLToPath(new URL("../kernels/include", import.meta.url));
    const compiler = spawnSync("c++", ["-x", "c++", "-std=c++20", "-fsyntax-only", `-I${include}`, "-"], {
      input: layoutAssertions(),
      encoding: "utf8",
    });
    assertEquals(compiler.stderr, "");
    assertEquals(compiler.status, 0);
  });

  it("has structs without hidden padding, in multiples of 8 bytes", () => {
    for (const name of Object.keys(STRUCTS) as StructName[]) {
      const shape = shapeOf(name);
      if (shape.kind !== "struct") continue;
      assertEquals(
        shape.fields.reduce((total, field) => total + field.shape.bytes, 0),
        structBytes(name),
        name,
      );
      assertEquals(structBytes(name) % 8, 0, name);
    }
  });
});
