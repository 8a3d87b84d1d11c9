/** --keep: modules that stay in 16 bits, by name or by pattern. */
import { matchingLinears } from "./module_pattern.ts";
import type { SourceLinear } from "./source.ts";

/** @throws for a pattern that names nothing */
export function keptModules(linears: readonly SourceLinear[], patterns: readonly string[]): ReadonlySet<string> {
  return new Set(patterns.flatMap((pattern) => matchingLinears(linears, pattern, "keep")).map(({ module }) => module));
}

/** @throws for a linear whose inputs the group does not divide */
export function checkGroups(linears: readonly SourceLinear[], kept: ReadonlySet<string>, group: number): void {
  const bad = linears.find(({ module, inFeatures }) => !kept.has(module) && inFeatures % group !== 0);
  if (bad === undefined) return;
  const { module, inFeatures } = bad;
  const advice = "another --group-size may, or --keep leaves it in 16 bits";
  throw new Error(`Cannot quantize ${module}: groups of ${group} do not divide its ${inFeatures} inputs; ${advice}`);
}
