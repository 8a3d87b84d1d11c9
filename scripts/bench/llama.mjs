/** The llama.cpp side: installs libllama, makes a model with random weights, times it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CACHE_DIR, commandLine, compile, run, runForJson } from "./programs.mjs";
import { bytesPerStep, ensureRandomGguf } from "./random_gguf.mjs";
import { SHAPES } from "./shapes.mjs";

const PACKAGE = "@node-llama-cpp/linux-x64";
const PACKAGE_DIR = join(import.meta.dirname, "node_modules", PACKAGE);
const LIBRARIES_DIR = join(PACKAGE_DIR, "bins", "linux-x64");

const readJson = (path) => JSON.parse(readFileSync(path, "utf8"));

function installedVersion() {
  const manifest = join(PACKAGE_DIR, "package.json");
  return existsSync(manifest) ? readJson(manifest).version : null;
}

/**
 * Installs the libraries and compiles the timing program.
 *
 * @returns {{ program: string, package: string, release: string }} package with its version, llama.cpp's release
 */
export function prepareLlama() {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new Error(
      `Cannot time llama.cpp: its libraries come for linux-x64, received ${process.platform}-${process.arch}; use --skip-llama`,
    );
  }
  const wanted = readJson(join(import.meta.dirname, "package.json")).dependencies[PACKAGE];
  if (installedVersion() !== wanted) run("npm", ["ci"], import.meta.dirname);
  const { release } = readJson(join(LIBRARIES_DIR, "_nlcBuildMetadata.json")).buildOptions.llamaCpp;
  return { program: compile("llama_bench"), package: `${PACKAGE} ${wanted}`, release };
}

/**
 * Makes the model if need be.
 *
 * @param {string} shapeName
 * @param {string} format of the linears
 * @param {number} cachedTokens that a decode step finds in the KV cache, on average: they count in bytesPerStep
 */
export function prepareModel(shapeName, format, cachedTokens) {
  const shape = SHAPES[shapeName];
  const path = join(CACHE_DIR, `${shapeName}-${format}.gguf`);
  ensureRandomGguf(path, shape, format);
  return { path, format, bytesPerStep: bytesPerStep(shape, format, cachedTokens) };
}

/**
 * One timed run, in a process of its own.
 *
 * @param {string} program
 * @param {{ path: string }} model
 * @param {{ threads: number, promptTokens: number, decodeSteps: number }} options
 */
export function runLlama(program, model, { threads, promptTokens, decodeSteps }) {
  const args = [
    ...["--libraries", LIBRARIES_DIR, "--model", model.path, "--threads", String(threads)],
    ...["--prompt", String(promptTokens), "--tokens", String(decodeSteps)],
  ];
  return { command: commandLine(program, args), result: runForJson(program, args) };
}
