/**
 * What a call costs, from the bare border upwards, in nanoseconds: `bun ffi/bench.ts`, or under Deno. Each step of the ladder
 * adds one thing to the step before it, so that the overhead of every layer is known.
 */

import { encode } from "./codec.ts";
import { ISA_AUTO } from "./constants.ts";
import { loadLibrary } from "./library.ts";
import { Context, libraryPath, STATUS } from "./mod.ts";

const CALLS = 20_000;
const ROUNDS = 9;

/** Nanoseconds per call, the best of a few rounds: what else runs on the machine can only add to it. */
function nanoseconds(body: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const begin = performance.now();
    for (let call = 0; call < CALLS; call++) body();
    best = Math.min(best, ((performance.now() - begin) * 1e6) / CALLS);
  }
  return best;
}

using context = Context.open({ threads: 1 });
const buffer = context.alloc(64);
const at = buffer.at(0);
const add = { a: at, b: at, y: at, count: 1 };
const linear = {
  x: at,
  rows: 1,
  inFeatures: 4,
  activations: 1,
  parts: [1, 2, 3].map(() => ({
    weight: { data: at, kind: 0, dtype: 0, bits: 0, group: 0, zero: 0, outFeatures: 1, inFeatures: 4 },
    bias: null,
    y: buffer.at(32),
  })),
};
using graph = context.record(() => context.add(add));

// The same op without the wrapper: a context and a buffer made through bare calls.
const native = loadLibrary(libraryPath("cpu"));
const [rawContext, rawBuffer] = [new BigUint64Array(1), new BigUint64Array(1)];
native.apiq_context_create(
  encode("apiq_context_options", { device: 0, threads: 1, isa: ISA_AUTO }, "bench"),
  bytesOf(rawContext),
);
const contextNumber = Number(rawContext[0]);
native.apiq_buffer_alloc(contextNumber, 64, bytesOf(rawBuffer));
const encoded = encode("apiq_add_args", add, "bench").slice();
const words = new BigUint64Array(encoded.buffer);
words[0] = words[2] = words[4] = rawBuffer[0]!;

function bytesOf(words: BigUint64Array): Uint8Array {
  return new Uint8Array(words.buffer);
}

const LADDER: [name: string, body: () => void][] = [
  ["FFI call without arguments (apiq_abi_version)", () => native.apiq_abi_version()],
  ["FFI call of add of one element, its struct ready", () => native.apiq_add(contextNumber, encoded)],
  ["encode the struct of add", () => encode("apiq_add_args", add, "run add")],
  ["encode the struct of linear with three parts", () => encode("apiq_linear_args", linear, "run linear")],
  ["context.add of one element", () => context.add(add)],
  ["graph.launch of that add", () => graph.launch()],
];

if (native.apiq_add(contextNumber, encoded) !== STATUS.OK) throw new Error("Cannot bench: the bare call of add failed");
for (const [name, body] of LADDER) console.log(`${nanoseconds(body).toFixed(0).padStart(7)} ns  ${name}`);
