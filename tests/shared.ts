/**
 * `../shared`, the folder of reference data beside the checkout. It is not part of the repository: a test that needs it
 * registers itself with `itShared`, which shows up as a skip with a reason where the folder is absent.
 */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { it } from "@std/testing/bdd";

export const repositoryRoot = fileURLToPath(new URL("..", import.meta.url));

const sharedRoot = fileURLToPath(new URL("../../shared", import.meta.url));

export const hasShared = existsSync(`${sharedRoot}/golden`);

/** Absolute path of a file in `../shared`, as in `sharedPath("golden/smollm2.json")`. */
export function sharedPath(path: string): string {
  return `${sharedRoot}/${path}`;
}

/** `it`, or a visible skip where `condition` does not hold; `reason` then stands in the test's name. */
export function itWhen(condition: boolean, reason: string): (name: string, body: () => void | Promise<void>) => void {
  return condition ? (name, body) => it(name, body) : (name, body) => it.skip(`${name} [skipped: ${reason}]`, body);
}

/** `it` for a test that reads `../shared`. */
export const itShared = itWhen(hasShared, "../shared is absent");
