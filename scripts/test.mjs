/**
 * `npm test [-- filter...]`: installs and builds what is missing, then runs the stages below, each with its time, and ends
 * with one line `N passed, N failed, N skipped` over all of them. With filters only test files and native test programs
 * whose path contains one of them run.
 *
 *   types      tsc --noEmit, and the same for the page   count as a test each
 *   format     biome check, format and lint              counts as one test
 *   native     build/tests/* and the CUDA kernels on the host's block emulator; each prints `N passed, N failed`
 *   bun        every *_test.ts and *_test.mjs
 *   deno       the tests that the two runtimes have to agree on: ffi, conformance, golden runs, the engine, eval, quantize, finetune
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureNative } from "./build.mjs";
import { ensurePage } from "./build_page.mjs";
import { ensureChromium } from "./chromium.mjs";
import { ensureDependencies, main, root, runtimeBinary } from "./setup.mjs";
import { tally, testCases } from "./test_report.mjs";

const SOURCE_FOLDERS = ["ffi", "runtime", "serve", "scripts", "tests"];
const DENO_FOLDERS = [
  "ffi/",
  "tests/conformance/",
  "tests/golden/families",
  "tests/golden/peft",
  "tests/golden/apiq_",
  "tests/golden/training_",
  "tests/golden/finetune",
  "runtime/engine/",
  "tests/adapters/",
  "runtime/eval/",
  "runtime/cli/commands/eval",
  "tests/quantize/",
  "runtime/finetune/",
  "tests/finetune/",
];

const filters = process.argv.slice(2);
const matches = (path) => filters.length === 0 || filters.some((filter) => path.includes(filter));
const reports = mkdtempSync(join(tmpdir(), "apiq-test-"));

function testFiles() {
  return SOURCE_FOLDERS.filter((folder) => existsSync(`${root}${folder}`))
    .flatMap((folder) => readdirSync(`${root}${folder}`, { recursive: true }).map((path) => `${folder}/${path}`))
    .filter((path) => /_test\.(ts|mjs)$/.test(path) && !path.includes("node_modules/") && matches(path))
    .sort();
}

/** Runs a command with its output shown, and gives its exit status. */
function show(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (error) console.error(`Cannot run ${command}: ${error.message}`);
  return status ?? 1;
}

function check(command, args) {
  return show(process.execPath, [`${root}node_modules/${command}`, ...args]) === 0 ? { passed: 1 } : { failed: 1 };
}

/** The page is written for browsers and has a configuration of its own. */
function types() {
  const results = [["--noEmit"], ["--noEmit", "-p", "serve/page"]].map((args) => check("typescript/bin/tsc", args));
  const count = (outcome) => results.reduce((sum, result) => sum + (result[outcome] ?? 0), 0);
  return { passed: count("passed"), failed: count("failed") };
}

function runtimeTests(status, report) {
  const cases = existsSync(report) ? testCases(readFileSync(report, "utf8")) : [];
  for (const name of cases.filter((test) => test.outcome === "skipped").map((test) => test.name)) {
    console.log(`skipped: ${name}`);
  }
  return tally(cases, status);
}

function bunTests() {
  const files = testFiles().map((path) => `./${path}`);
  if (files.length === 0) return {};
  const report = join(reports, "bun.xml");
  const options = ["--only-failures", "--reporter=junit", `--reporter-outfile=${report}`];
  return runtimeTests(show(runtimeBinary("bun"), ["test", ...options, ...files]), report);
}

function denoTests() {
  const files = testFiles().filter((path) => DENO_FOLDERS.some((folder) => path.startsWith(folder)));
  if (files.length === 0) return {};
  const report = join(reports, "deno.xml");
  // Types are checked by the types stage, with Bun's declarations.
  const options = ["--allow-all", "--no-check", "--config=deno.offline.json", `--junit-path=${report}`];
  // Deno cannot show failures alone: its output is shown when there are any.
  const { status, stdout, stderr } = spawnSync(runtimeBinary("deno"), ["test", ...options, ...files], {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (status !== 0) console.log(`${stdout}${stderr}`);
  return runtimeTests(status, report);
}

function nativeTests() {
  const folder = `${root}build/tests`;
  const programs = existsSync(folder) ? readdirSync(folder).map((name) => `build/tests/${name}`) : [];
  programs.push("build/cuda_emulator_tests");
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const program of programs.filter((path) => matches(path) && isProgram(`${root}${path}`))) {
    const { status, stdout, error } = spawnSync(`${root}${program}`, {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    console.log(`${program}\n${stdout ?? error.message}`);
    const counts = [...(stdout ?? "").matchAll(/(\d+) passed, (\d+) failed(?:, (\d+) skipped)?/g)].at(-1);
    const failed = Number(counts?.[2] ?? 0);
    total.passed += Number(counts?.[1] ?? 0);
    // A program that crashed or that reported nothing is a failure of its own.
    total.failed += failed === 0 && (status !== 0 || !counts) ? 1 : failed;
    total.skipped += Number(counts?.[3] ?? 0);
  }
  return total;
}

function isProgram(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat?.isFile() && (stat.mode & 0o111) !== 0;
}

const STAGES = [
  { name: "types", run: types, always: false },
  {
    name: "format",
    run: () => check("@biomejs/biome/bin/biome", ["check", "--error-on-warnings", "."]),
    always: false,
  },
  { name: "native", run: nativeTests, always: true },
  { name: "bun", run: bunTests, always: true },
  { name: "deno", run: denoTests, always: true },
];

function timed(name, run) {
  console.log(`\n== ${name}`);
  const begin = performance.now();
  const { passed = 0, failed = 0, skipped = 0 } = run();
  return { name, seconds: (performance.now() - begin) / 1000, passed, failed, skipped };
}

function printTimes(results) {
  console.log("\nstage    seconds  passed  failed  skipped");
  for (const { name, seconds, passed, failed, skipped } of results) {
    const columns = [
      seconds.toFixed(1).padStart(7),
      ...[passed, failed, skipped].map((count) => String(count).padStart(6)),
    ];
    console.log(`${name.padEnd(8)} ${columns.join("  ")}`);
  }
}

await main(() => {
  const results = [];
  try {
    const build = timed("build", () => {
      ensureDependencies();
      ensureNative();
      ensurePage();
      ensureChromium();
      return {};
    });
    results.push(build);
    const stages = STAGES.filter((stage) => stage.always || filters.length === 0);
    for (const stage of stages) results.push(timed(stage.name, stage.run));
  } finally {
    rmSync(reports, { recursive: true });
  }
  printTimes(results);
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  const [passed, failed, skipped] = ["passed", "failed", "skipped"].map(sum);
  if (passed + failed === 0) console.log("\nNo test ran.");
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  if (failed > 0 || passed === 0) process.exitCode = 1;
});
