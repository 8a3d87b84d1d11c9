/**
 * Installs what package-lock.json names, if it is not there yet. Plain Node without dependencies, so that it runs in a fresh
 * clone: `npm start` and `npm test` call it first. Where this is an installed package npm has done that, and only the
 * runtimes are looked after.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

/** A clone of the repository, not an installed package: npm packs no lock file. */
export const isClone = existsSync(`${root}package-lock.json`);

/** Packages that an installed package needs lie beside it, unless another version of them was there. */
const modules = isClone || existsSync(`${root}node_modules/bun`) ? `${root}node_modules` : resolve(root, "..");

/** The runtimes come as npm packages whose install scripts put the binary in place; npm may be set not to run those. */
const RUNTIMES = [
  { name: "bun", binary: `${modules}/bun/bin/bun.exe`, repair: `${modules}/bun/install.js` },
  { name: "deno", binary: `${modules}/deno/deno`, repair: `${modules}/deno/install.cjs` },
];

/** Path of a runtime's own binary: "bun" or "deno". */
export function runtimeBinary(name) {
  return RUNTIMES.find((runtime) => runtime.name === name).binary;
}

export function ensureDependencies() {
  if (isClone && !dependenciesMatchLock()) {
    console.error("Installing dependencies (npm ci)");
    run(...npmCommand(["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"]));
  }
  for (const { name, binary, repair } of RUNTIMES) {
    if (works(binary)) continue;
    if (existsSync(repair)) run(process.execPath, [repair], dirname(repair));
    if (!works(binary)) {
      throw new Error(
        `Cannot install ${name}: ${binary} does not run. Is there a build of it for ${process.platform} ${process.arch}?`,
      );
    }
  }
}

/** npm writes what it installed into node_modules/.package-lock.json: all of our lock file must be in it. */
function dependenciesMatchLock() {
  const installedPath = `${root}node_modules/.package-lock.json`;
  if (!existsSync(installedPath)) return false;
  const installed = readPackages(installedPath);
  return Object.entries(readPackages(`${root}package-lock.json`)).every(
    ([path, wanted]) => path === "" || wanted.optional || installed[path]?.version === wanted.version,
  );
}

function readPackages(path) {
  return JSON.parse(readFileSync(path, "utf8")).packages;
}

/** The npm that runs us, if one does; its path may be a script that only Node can start. */
function npmCommand(args) {
  const npm = process.env.npm_execpath;
  return npm?.endsWith(".js") ? [process.execPath, [npm, ...args]] : ["npm", args];
}

function works(binary) {
  return existsSync(binary) && spawnSync(binary, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Runs a command to its end, with its output on our standard error: our standard output may be read by a program. */
export function run(command, args, cwd = root) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: ["ignore", 2, 2] });
  if (error) throw new Error(`Cannot run ${command}: ${error.message}`);
  if (status !== 0) throw new Error(`Cannot set up: \`${[command, ...args].join(" ")}\` ended with status ${status}`);
}

/** True in the script that node was started with, false where it is imported. */
export function isMain(meta) {
  return process.argv[1] === fileURLToPath(meta.url);
}

/** Runs a script's main function; a failure is one line on standard error. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}

if (isMain(import.meta)) await main(ensureDependencies);
