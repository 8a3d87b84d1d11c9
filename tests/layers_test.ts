import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { repositoryRoot } from "./shared.ts";

/** What the modules of a folder may import from, besides packages and `node:`. Tests and scripts may import anything. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  ffi: ["ffi"],
  runtime: ["runtime", "ffi"],
  serve: ["serve", "runtime", "ffi"],
};

const FOLDERS = ["ffi", "runtime", "serve", "scripts", "tests", "kernels"];
const LONGEST_FILE = 400;

const files = FOLDERS.flatMap((folder) =>
  readdirSync(join(repositoryRoot, folder), { recursive: true, encoding: "utf8" })
    .map((path) => `${folder}/${path}`)
    .filter((path) => /\.(ts|tsx|mjs|js|cpp|h|cu|cuh)$/.test(path) && !path.includes("node_modules/")),
);

function read(path: string): string {
  return readFileSync(join(repositoryRoot, path), "utf8");
}

function imports(path: string): string[] {
  const specifiers = read(path).matchAll(
    /^(?:import|export)\b(?:[^"';]*\bfrom)?\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm,
  );
  return [...specifiers].map(([, fromStatic, fromDynamic]) => (fromStatic ?? fromDynamic)!);
}

/** The code alone, so that a runtime named in a comment or a string does not count as used. */
function withoutCommentsAndStrings(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\/|\/\/.*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g, "");
}

const modules = files.filter((path) => path.endsWith(".ts"));

describe("layers", () => {
  it("import downwards only: serve -> runtime -> ffi", () => {
    const wrong: string[] = [];
    for (const path of modules.filter((path) => !path.endsWith("_test.ts"))) {
      const folder = path.slice(0, path.indexOf("/"));
      const allowed = MAY_IMPORT[folder];
      if (!allowed) continue;
      for (const specifier of imports(path).filter((specifier) => specifier.startsWith("."))) {
        const target = relative(repositoryRoot, join(repositoryRoot, dirname(path), specifier));
        if (!allowed.some((layer) => target.startsWith(`${layer}/`))) wrong.push(`${path} imports ${target}`);
      }
    }
    assertEquals(wrong, []);
  });

  it("name Bun and Deno only in adapters called bun.ts and deno.ts", () => {
    const isAdapter = (path: string) => /\/(bun|deno)\.ts$/.test(path);
    // The tests' own API is the one thing that differs without an adapter folder around it.
    const users = modules.filter((path) => !isAdapter(path) && path !== "tests/std/bdd.ts");
    const wrong = users.filter(
      (path) =>
        /\b(Bun|Deno)\s*[.[]|\bglobalThis\.(Bun|Deno)\b/.test(withoutCommentsAndStrings(read(path))) ||
        imports(path).some((specifier) => specifier === "bun" || specifier.startsWith("bun:")),
    );
    assertEquals(wrong, []);
  });

  it(`consist of files of at most ${LONGEST_FILE} lines, or say at their top why not`, () => {
    const wrong = files.filter((path) => {
      const lines = read(path).split("\n");
      return lines.length - 1 > LONGEST_FILE && !lines.slice(0, 10).join(" ").includes("long because");
    });
    assertEquals(wrong, []);
  });
});
