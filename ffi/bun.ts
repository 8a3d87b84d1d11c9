/** FFI under Bun. */

import { dlopen, type FFITypeOrString } from "bun:ffi";
import type { Adapter, BoundFunction, CrossingType } from "./adapter.ts";

const FFI_TYPES: Record<CrossingType, FFITypeOrString> = { u32: "u32", i32: "i32", u64: "u64", memory: "ptr" };

export const adapter: Adapter = {
  bind(path, name, { parameters, result }) {
    const signature = { args: parameters.map((type) => FFI_TYPES[type]), returns: FFI_TYPES[result] };
    return dlopen(path, { [name]: signature }).symbols[name] as BoundFunction;
  },
};
