/** FFI under Deno; needs --allow-ffi. */

import type { Adapter, CrossingType } from "./adapter.ts";

// Of Deno's API only what is used here: its full types and Bun's cannot be loaded together.
declare const Deno: {
  dlopen(
    path: string,
    symbols: Record<string, { parameters: string[]; result: string }>,
  ): { symbols: Record<string, (...parameters: (number | bigint | Uint8Array | null)[]) => number> };
};

const FFI_TYPES: Record<CrossingType, string> = { u32: "u32", i32: "i32", u64: "u64", memory: "buffer" };

export const adapter: Adapter = {
  bind(path, name, { parameters, result }) {
    const signature = { parameters: parameters.map((type) => FFI_TYPES[type]), result: FFI_TYPES[result] };
    const call = Deno.dlopen(path, { [name]: signature }).symbols[name]!;
    // Deno's fast path takes 64 bits as a bigint; a number goes a way ten times as long. The ops are what is called often.
    const isOp = parameters.length === 2 && parameters[0] === "u64" && parameters[1] === "memory";
    return isOp ? (context, args) => call(BigInt(context as number), args) : call;
  },
};
