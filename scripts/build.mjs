/** Builds the kernel libraries into build/, if they are missing or older than their sources. */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";
import { isClone, isMain, main, root, run } from "./setup.mjs";

const build = `${root}build`;
/** Written after a build that succeeded; its time is the build's beginning. */
const stamp = `${build}/.built`;

export function ensureNative() {
  if (isFromElsewhere() || isStale(`${root}kernels`, stamp)) buildNative();
}

function buildNative() {
  console.error("Building the kernel library (cmake); this takes some minutes and is done once");
  for (const tool of ["cmake", "c++"]) {
    if (!exists(tool))
      throw new Error(`Cannot build the kernel library: no ${tool}. On Debian: apt-get install cmake g++ ninja-build`);
  }
  const begin = new Date();
  if (isFromElsewhere()) rmSync(build, { recursive: true });
  const generator = existsSync(`${build}/CMakeCache.txt`) || !exists("ninja") ? [] : ["-G", "Ninja"];
  run("cmake", ["-S", "kernels", "-B", "build", ...generator, "-DCMAKE_BUILD_TYPE=Release"]);
  // An installed package needs no test programs.
  const targets = isClone ? [] : ["--target", "apiq_cpu", ...(exists("nvcc") ? ["apiq_cuda"] : [])];
  run("cmake", ["--build", "build", "--parallel", String(availableParallelism()), ...targets]);
  writeFileSync(stamp, `${begin.toISOString()}\n`);
}

/** Whether a file of `sources` is as new as the build that `stamp` tells of, or newer, or there was none. */
export function isStale(sources, stamp) {
  if (!existsSync(stamp)) return true;
  const built = Date.parse(readFileSync(stamp, "utf8").trim());
  return !readdirSync(sources, { recursive: true }).every((path) => statSync(join(sources, path)).mtimeMs < built);
}

/** CMake refuses a build folder that was configured for another checkout: a copied one begins anew. */
function isFromElsewhere() {
  const cache = `${build}/CMakeCache.txt`;
  if (!existsSync(cache)) return false;
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*)$/m.exec(readFileSync(cache, "utf8"))?.[1];
  return home !== resolve(root, "kernels");
}

function exists(tool) {
  return spawnSync(tool, ["--version"], { stdio: "ignore" }).status === 0;
}

if (isMain(import.meta)) await main(ensureNative);
