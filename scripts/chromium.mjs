/**
 * Chromium for the tests of the page. On a CI machine (CI=true) that is a Debian with nothing of its own to lose, and where we
 * are root, it is installed from Debian's archive; anywhere else it is left to the machine's owner. Without it the tests that
 * need it are skipped and say so.
 */

import { spawnSync } from "node:child_process";
import process from "node:process";
import { isMain, main, run } from "./setup.mjs";

/** Where no archive answers, tests go on without. */
const PATIENCE = ["Acquire::Retries=0", "Acquire::http::Timeout=20", "DPkg::Lock::Timeout=60"].flatMap((option) => [
  "-o",
  option,
]);

export function ensureChromium() {
  const isOurs = process.env.CI && process.getuid?.() === 0 && works("apt-get");
  if (process.env.APIQ_CHROMIUM || works("chromium") || works("google-chrome") || !isOurs) return;
  console.error("Installing Chromium for the tests of the page (apt-get)");
  try {
    run("apt-get", [...PATIENCE, "update", "-qq"]);
    run("apt-get", [...PATIENCE, "install", "-y", "-qq", "--no-install-recommends", "chromium"]);
  } catch (error) {
    console.error(`${error.message}. The tests of the page in a browser are skipped.`);
  }
}

function works(command) {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

if (isMain(import.meta)) await main(ensureChromium);
