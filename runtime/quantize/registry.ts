/** All methods. Adding one touches its own file and this list. */
import type { MethodOption, QuantizationMethod } from "./method.ts";
import { apiqBwMethod } from "./methods/apiq_bw.ts";
import { apiqLwMethod } from "./methods/apiq_lw.ts";
import { blockApMethod } from "./methods/block_ap.ts";
import { cloqMethod } from "./methods/cloq.ts";
import { fineMethod } from "./methods/fine.ts";
import { gptqMethod } from "./methods/gptq.ts";
import { loftqMethod } from "./methods/loftq.ts";
import { nfMethods } from "./methods/nf.ts";
import { omniquantMethod } from "./methods/omniquant.ts";
import { rtnMethod } from "./methods/rtn.ts";
import { OPTION_FLAGS } from "./settings.ts";

export const METHODS: readonly QuantizationMethod[] = [
  rtnMethod,
  gptqMethod,
  omniquantMethod,
  apiqBwMethod,
  apiqLwMethod,
  blockApMethod,
  ...nfMethods,
  loftqMethod,
  fineMethod,
  cloqMethod,
];

/** @throws for a name that is none of them */
export function methodNamed(name: string): QuantizationMethod {
  const method = METHODS.find((method) => method.name === name);
  if (method !== undefined) return method;
  throw new Error(`Unknown method "${name}": expected one of ${METHODS.map((method) => method.name).join(", ")}`);
}

/** The bits that a method's name fixes, as in nf4; undefined: any. */
export function bitsOfName(name: string): 2 | 3 | 4 | undefined {
  const digit = /^nf([234])$/.exec(name)?.[1];
  return digit === undefined ? undefined : (Number(digit) as 2 | 3 | 4);
}

/** @throws {RangeError} for an option that was given and that the method would ignore; names the methods that heed it */
export function refuseIgnored(method: QuantizationMethod, given: readonly MethodOption[]): void {
  for (const option of given) {
    if (method.uses.includes(option)) continue;
    const users = METHODS.filter(({ uses }) => uses.includes(option)).map(({ name }) => name);
    throw new RangeError(`Cannot use ${OPTION_FLAGS[option]} with ${method.name}: it is for ${users.join(", ")}`);
  }
}
