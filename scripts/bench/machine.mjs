/** What the figures were measured on. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { compile, runForJson } from "./programs.mjs";

/** Instruction sets that a kernel of either side may use. */
const FEATURES = [
  ...["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"],
  ...["avx512vbmi", "avx512_bf16", "amx_int8"],
];

function cpuFlags() {
  const line = readFileSync("/proc/cpuinfo", "utf8").match(/^flags\s*:(.*)$/m);
  return new Set(line?.[1].trim().split(" "));
}

/** The kernel's setting, such as "madvise". */
function transparentHugePages() {
  const setting = readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
  return setting.match(/\[(\w+)\]/)?.[1] ?? setting.trim();
}

/** A file's facts, or null on a system that has no such file. */
function orNull(read) {
  try {
    return read();
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
}

export function describeMachine() {
  const flags = orNull(cpuFlags);
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    features: flags && FEATURES.filter((feature) => flags.has(feature)),
    memoryBytes: totalmem(),
    kernel: release(),
    /** Over the last minute, at the moment of the call. */
    loadAverage: loadavg()[0],
    transparentHugePages: orNull(transparentHugePages),
  };
}

/**
 * Read bandwidth of `threads` threads, one sequential stream each, over huge pages.
 *
 * @param {number} threads
 * @returns {{ threads: number, bytesPerSecond: number, bestBytesPerSecond: number }}
 */
export const measureReadBandwidth = (threads) => runForJson(compile("read_bandwidth"), [String(threads)]);
