/** What npm would pack; scripts/check/package.mjs installs it and starts it. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { repositoryRoot } from "../shared.ts";

interface Manifest {
  bin: Record<string, string>;
  dependencies: Record<string, string>;
}

const manifest = JSON.parse(readFileSync(`${repositoryRoot}package.json`, "utf8")) as Manifest;

/** Files that are started as processes or threads, and so are not found by following imports. */
const PROCESSES = ["engine/worker.ts", "engine/engine.ts", "engine/adapter_reader_thread.ts", "grammar/process.ts"];
const STARTED = [
  ...["scripts/apiq.ts", "scripts/serve_addresses.ts", "scripts/setup.mjs", "scripts/build.mjs"],
  ...[...PROCESSES, "grammar/relay_thread.ts"].map((path) => `runtime/${path}`),
];

function packed(): { files: string[]; bytes: number } {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const { stdout, stderr } = spawnSync("npm", args, { cwd: repositoryRoot, encoding: "utf8" });
  const [listing] = JSON.parse(stdout || "[]") as { files: { path: string }[]; size: number }[];
  if (!listing) throw new Error(`npm pack says: ${stderr}`);
  return { files: listing.files.map(({ path }) => path), bytes: listing.size };
}

/** What a module imports as it runs; types leave no trace. */
function importsOf(path: string): string[] {
  const source = readFileSync(`${repositoryRoot}${path}`, "utf8");
  const found = source.matchAll(
    /^(?:import|export)\b(?!\s+type\b)(?:[^"';]*\bfrom)?\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm,
  );
  return [...found].map(([, fromStatic, fromDynamic]) => (fromStatic ?? fromDynamic)!);
}

describe("the package", () => {
  const { files, bytes } = packed();
  const modules = new Set<string>();
  const packages = new Set<string>();
  const follow = (path: string) => {
    if (modules.has(path)) return;
    modules.add(path);
    for (const specifier of importsOf(path)) {
      if (specifier.startsWith(".")) follow(normalize(join(dirname(path), specifier)));
      else if (!/^(node|bun):/.test(specifier))
        packages.add(
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        );
    }
  };
  for (const path of STARTED) follow(path);

  it("has every module that the program imports, and the sources of the kernel library", () => {
    assert(modules.size > 200, `found only ${modules.size} modules`);
    assertEquals(
      [...modules].filter((path) => !files.includes(path)),
      [],
    );
    assert(files.includes("kernels/CMakeLists.txt") && files.includes("kernels/include/apiq.h"));
    for (const path of ["deno.json", "LICENSE", "README.md", manifest.bin.apiq ?? ""])
      assert(files.includes(path), path);
  });

  it("names every package that these import among its dependencies", () => {
    assert(packages.has("hono"));
    assertEquals(
      [...packages].filter((name) => !Object.hasOwn(manifest.dependencies, name)),
      [],
    );
    for (const [name, version] of Object.entries(manifest.dependencies)) assert(/^\d/.test(version), name);
  });

  it("is small, and has nothing that only the repository needs", () => {
    assert(bytes < 3e6, `${bytes} bytes`);
    const wrong = files.filter((path) => /_test\.|^tests\/|node_modules|^scripts\/bench|\.so$/.test(path));
    assertEquals(wrong, []);
    assert(files.every((path) => existsSync(`${repositoryRoot}${path}`)));
  });
});
