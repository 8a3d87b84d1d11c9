/** FFI under Deno; needs --allow-ffi. */

import type { Adapter, BoundFunction, CrossingType } from "./adapter.ts";

// Of Deno's API only what is used here: its full types and Bun's cannot be loaded together.
declare const Deno: {
  dlopen(
    path: string,
    symbols: Record<string, { parameters: string[]; result: string }>,
  ): { symbols: Record<string, BoundFunction> };
};

const FFI_TYPES: Record<CrossingType, string> = { u32: "u32", i32: "i32", u64: "u64", memory: "buffer" };

export const adapter: Adapter = {
  bind(path, name, { parameters, result }) {
    const signature = { parameters: parameters.map((type) => FFI_TYPES[type]), result: FFI_TYPES[result] };
    return Deno.dlopen(path, { [name]: signature }).symbols[name]!;
  },
};
