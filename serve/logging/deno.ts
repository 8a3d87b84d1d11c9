/** Standard error under Deno, whose node:fs and process.stderr stop the program until a pipe's reader has made room. */
import type { WriteSome } from "./standard_error.ts";

// Of Deno's API only what is used here: its full types and Bun's cannot be loaded together.
declare const Deno: { readonly stderr: { write(bytes: Uint8Array): Promise<number> } };

export const writeSome: WriteSome = (bytes) => Deno.stderr.write(bytes);
