/** Bundles serve/page into build/page/ (index.html, and one script, style sheet and icon named after their contents), if stale. */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isStale } from "./build.mjs";
import { isMain, main, root, run, runtimeBinary } from "./setup.mjs";

const sources = `${root}serve/page`;
const page = `${root}build/page`;
/** Written after a build that succeeded; its time is the build's beginning. */
const stamp = `${page}/.built`;

export function ensurePage() {
  if (isStale(sources, stamp)) buildPage();
}

/** Written beside its place and moved there whole, so that a server that runs meanwhile never reads half a page. */
function buildPage() {
  console.error("Building the page (bun build)");
  const begin = new Date();
  const made = `${page}-${process.pid}`;
  mkdirSync(made, { recursive: true });
  try {
    const entries = ["main.tsx", "style.css"].map((name) => join(sources, name));
    run(runtimeBinary("bun"), ["build", ...entries, "--outdir", made, "--target=browser", "--production"]);
    const names = {
      script: addHash(made, "main.js"),
      style: addHash(made, "style.css"),
      icon: addHash(made, "icon.svg", readFileSync(join(sources, "icon.svg"))),
    };
    const template = readFileSync(join(sources, "index.html"), "utf8");
    writeFileSync(
      join(made, "index.html"),
      template.replace(/\{\{(\w+)\}\}/g, (_, name) => names[name]),
    );
    writeFileSync(join(made, ".built"), `${begin.toISOString()}\n`);
    rmSync(page, { recursive: true, force: true });
    renameSync(made, page);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
}

/** Renames a file of `folder` to hold a hash of its contents, so that browsers may keep it for ever; gives the new name. */
function addHash(folder, name, contents = readFileSync(join(folder, name))) {
  const hash = createHash("sha256").update(contents).digest("hex").slice(0, 16);
  const hashed = name.replace(/\./, `-${hash}.`);
  if (readdirSync(folder).includes(name)) rmSync(join(folder, name));
  writeFileSync(join(folder, hashed), contents);
  return hashed;
}

if (isMain(import.meta)) await main(ensurePage);
