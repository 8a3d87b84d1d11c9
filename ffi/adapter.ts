/** What ffi needs of a runtime. bun.ts and deno.ts are the two implementations. */

/** How a value crosses: numbers by value, "memory" as the address of a Uint8Array's first byte, or null. */
export type CrossingType = "u32" | "i32" | "u64" | "memory";

export interface Signature {
  parameters: readonly CrossingType[];
  /** Every function of apiq.h returns 32 bits. */
  result: "u32" | "i32";
}

export type BoundFunction = (...parameters: (number | Uint8Array | null)[]) => number;

export interface Adapter {
  /** Loads the library at `path`, if it is not loaded yet, and gives its function `name`; throws where either is absent. */
  bind(path: string, name: string, signature: Signature): BoundFunction;
}
