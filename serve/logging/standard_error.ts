/** Standard error, written to without waiting for whoever reads it. */
import process from "node:process";

/**
 * Resolves to how many bytes were taken, at least one of them sooner or later. Rejects when they never will be: a full disk, or a
 * reader that is gone.
 */
export type WriteSome = (bytes: Uint8Array) => Promise<number>;

/** An adapter per runtime implements it. */
export async function standardError(): Promise<WriteSome> {
  const adapter = process.versions.bun === undefined ? import("./deno.ts") : import("./bun.ts");
  return (await adapter).writeSome;
}
