/** Finds and loads a kernel library. */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Adapter, BoundFunction, CrossingType, Signature } from "./adapter.ts";
import { ABI_VERSION } from "./constants.ts";
import { FUNCTIONS, type FunctionName } from "./symbols.ts";
import type { NativeFunctions } from "./types.ts";

export type Device = "cpu" | "cuda";

export const { adapter }: { adapter: Adapter } = await ("Deno" in globalThis
  ? import("./deno.ts")
  : import("./bun.ts"));

const loaded = new Map<string, NativeFunctions>();

/** Where the library of `device` is: the environment's APIQ_LIBRARY, else the build folder of this checkout. */
export function libraryPath(device: Device): string {
  return process.env.APIQ_LIBRARY || fileURLToPath(new URL(`../build/libapiq_${device}.so`, import.meta.url));
}

/** The functions of the library at `path`, loaded once per process and never unloaded. */
export function loadLibrary(path: string): NativeFunctions {
  const known = loaded.get(path);
  if (known) return known;
  if (!existsSync(path)) {
    throw new Error(`Cannot load the kernel library: no file at ${path}. \`npm run build\` builds it`);
  }
  const native = bindFunctions(path);
  const version = native.apiq_abi_version();
  if (version !== ABI_VERSION) {
    throw new Error(
      `Cannot load ${path}: received ABI version ${version}, expected ${ABI_VERSION}. \`npm run build\` builds it anew`,
    );
  }
  loaded.set(path, native);
  return native;
}

/** Each function is bound at its first call: a process uses few of them, and binding one costs more than calling it. */
function bindFunctions(path: string): NativeFunctions {
  const functions: Partial<Record<FunctionName, BoundFunction>> = {};
  for (const name of Object.keys(FUNCTIONS) as FunctionName[]) {
    functions[name] = (...parameters) => {
      const bound = bind(path, name);
      functions[name] = bound;
      return bound(...parameters);
    };
  }
  return functions as NativeFunctions;
}

function bind(path: string, name: FunctionName): BoundFunction {
  try {
    return adapter.bind(path, name, signatureOf(FUNCTIONS[name]));
  } catch (cause) {
    throw new Error(`Cannot load ${name} from ${path}. \`npm run build\` builds it anew`, { cause });
  }
}

/** The crossing types of a C declaration as symbols.ts holds it: "apiq_status (uint64_t context, ...)". */
export function signatureOf(declaration: string): Signature {
  const [, result, parameters] = /^(\w+) \((.*)\)$/.exec(declaration)!;
  return {
    parameters: parameters === "void" ? [] : parameters!.split(", ").map(crossingType),
    result: result === "uint32_t" ? "u32" : "i32",
  };
}

function crossingType(parameter: string): CrossingType {
  if (parameter.includes("*")) return "memory";
  return parameter.startsWith("uint64_t") ? "u64" : "u32";
}
