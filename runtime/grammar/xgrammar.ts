/**
 * The one place that loads @mlc-ai/web-xgrammar (Apache-2.0): XGrammar (arXiv 2411.15100) compiled to WebAssembly.
 *
 * Its only file is CommonJS in a package that says `"type": "module"`, which Bun tolerates and Deno does not. So it is read and
 * compiled as the function body that CommonJS is. That also decides what it can see:
 * - `process` and `importScripts` are hidden. Its loader then takes no runtime-specific path; the WebAssembly bytes are in the file.
 * - `console` is ours, because the build has no C++ exceptions: a failed check prints its reason and aborts.
 * - each call makes an instance of its own, so that one that aborted can be thrown away.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { compileFunction } from "node:vm";

export type XGrammar = typeof import("@mlc-ai/web-xgrammar");

/** What an instance may take, in bytes. The file allows itself 2 GiB, more than a small machine has to spare. */
const MAX_HEAP_BYTES = 512 * 1024 * 1024;
const HEAP_LIMIT_IN_FILE = "getHeapMax=()=>2147483648";

export interface XGrammarInstance {
  readonly api: XGrammar;
  /** Whether an attempt failed: what is in memory is then in no defined state, and the instance must not be used any more. */
  readonly aborted: boolean;
  /** Runs `body`; an abort inside becomes an Error with XGrammar's reason. */
  attempt<T>(body: () => Promise<T>): Promise<T>;
}

export function loadXGrammar(): XGrammarInstance {
  const file = createRequire(import.meta.url).resolve("@mlc-ai/web-xgrammar");
  const source = readFileSync(file, "utf8");
  if (!source.includes(HEAP_LIMIT_IN_FILE)) {
    throw new Error(`Cannot load ${file}: received another build than the one this loader was written for`);
  }
  const limited = source.replace(HEAP_LIMIT_IN_FILE, `getHeapMax=()=>${MAX_HEAP_BYTES}`);
  const parameters = ["exports", "module", "console", "location", "process", "importScripts"];
  let aborted = false;
  let lastReason = "";
  const note = (...parts: unknown[]): void => {
    const text = parts.join(" ");
    if (text.includes("[FATAL]")) lastReason = text;
  };
  const module = { exports: {} as XGrammar };
  const location = { href: pathToFileURL(file).href };
  compileFunction(limited, parameters, { filename: file })(
    module.exports,
    module,
    { log: note, warn: note, error: note },
    location,
  );
  return {
    api: module.exports,
    get aborted() {
      return aborted;
    },
    async attempt(body) {
      lastReason = "";
      try {
        return await body();
      } catch (error) {
        aborted = true;
        throw new Error(readable(lastReason) || (error instanceof Error ? error.message : String(error)));
      }
    },
  };
}

/** `[FATAL] /build/path/file.cc:12: Check failed: (x) is false: Reason` as `Reason`, cut where it quotes the whole input. */
function readable(reason: string): string {
  const text = reason
    .replace(/^[\s\S]*?\[FATAL\] \S+:\d+: /, "")
    .replace(/^Check failed: \([\s\S]*?\) is (?:false|true): ?/, "")
    .trim();
  return text.length > 300 ? `${text.slice(0, 300)}...` : text;
}
