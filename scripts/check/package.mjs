/**
 * Checks that the package works where it is installed: packs it, installs the tarball into an empty folder, starts `npx apiq serve`
 * there, asks it for its state and its page, and stops it.
 *
 *   node scripts/check/package.mjs [--library FILE]
 *
 * The first run in the folder builds the kernel library, which takes some minutes; with --library FILE is put in its place.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { isMain, main, root, run } from "../setup.mjs";

async function checkPackage() {
  const { library } = parseArgs({ options: { library: { type: "string" } } }).values;
  const folder = mkdtempSync(join(tmpdir(), "apiq-package-"));
  try {
    run("npm", ["pack", "--pack-destination", folder]);
    const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
    run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", `./apiq-${version}.tgz`], folder);
    if (library !== undefined) {
      mkdirSync(join(folder, "node_modules/apiq/build"), { recursive: true });
      copyFileSync(resolve(library), join(folder, "node_modules/apiq/build/libapiq_cpu.so"));
    }
    await checkServer(folder);
    console.log("The package installs and serves.");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Throws an Error that says what the server did instead. */
async function checkServer(folder) {
  const server = spawn("node_modules/.bin/apiq", ["serve", "--port", "0"], {
    cwd: folder,
    stdio: ["ignore", "pipe", 2],
  });
  const exited = once(server, "exit");
  let output = "";
  server.stdout.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  try {
    const url = await Promise.race([
      exited.then(() => Promise.reject(new Error("apiq serve ended before it listened"))),
      once(server.stdout, "data").then(() => /http:\S+/.exec(output)?.[0]),
    ]);
    const health = await (await fetch(`${url}/health`)).json();
    if (health.status !== "no_model") throw new Error(`Expected status no_model, received ${JSON.stringify(health)}`);
    const page = await fetch(`${url}/`);
    if (page.status !== 200) throw new Error(`Expected the page, received status ${page.status}`);
    server.kill("SIGTERM");
    const [code] = await exited;
    if (code !== 0) throw new Error(`Expected exit code 0 after SIGTERM, received ${code}`);
  } finally {
    server.kill("SIGKILL");
  }
}

if (isMain(import.meta)) await main(checkPackage);
