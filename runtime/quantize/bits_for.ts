/** --bits-for: linears with bits of their own. */

import { BITS } from "../formats/gptq.ts";
import type { Linear } from "../models/weights.ts";
import type { BlockJob, MethodSettings } from "./method.ts";
import { matchingLinears } from "./module_pattern.ts";
import type { SourceLinear } from "./source.ts";

export interface BitsFor {
  readonly pattern: string;
  readonly bits: MethodSettings["bits"];
}

/** PATTERN=BITS. @throws {RangeError} for anything else */
export function parseBitsFor(text: string): BitsFor {
  const at = text.lastIndexOf("=");
  const bits = BITS.find((each) => `${each}` === text.slice(at + 1));
  if (at > 0 && bits !== undefined) return { pattern: text.slice(0, at), bits };
  throw new RangeError(`Cannot use --bits-for: received ${text}, expected PATTERN=BITS with ${BITS.join(", ")} bits`);
}

/**
 * By module name. Where several patterns name a linear, the last one counts.
 *
 * @throws for a pattern that names nothing
 */
export function bitsByModule(
  linears: readonly SourceLinear[],
  bitsFor: readonly BitsFor[],
): ReadonlyMap<string, MethodSettings["bits"]> {
  const entries = bitsFor.flatMap(({ pattern, bits }) =>
    matchingLinears(linears, pattern, `give ${bits} bits to`).map(({ module }) => [module, bits] as const),
  );
  return new Map(entries);
}

/** @throws {RangeError} where a normal-float table would have to have 256 entries, for any of the linears */
export function checkTableBits(
  method: string,
  { base, bits }: Pick<MethodSettings, "base" | "bits">,
  others: Iterable<number>,
): void {
  if (base !== "nf" || ![bits, ...others].includes(8)) return;
  throw new RangeError(`Cannot quantize with ${method}: received 8 bits, expected 2, 3 or 4 over normal-float`);
}

/** Those of one linear. */
export function bitsOf(
  { settings, bitsFor }: Pick<BlockJob, "settings" | "bitsFor">,
  { name }: Linear,
): MethodSettings["bits"] {
  return bitsFor?.get(name) ?? settings.bits;
}
