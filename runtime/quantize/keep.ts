/** --keep: modules that stay in 16 bits, by name or by pattern. */
import type { SourceLinear } from "./source.ts";

/**
 * The linears that `patterns` name; "*" stands for one part of a dotted name, as in quantization_config.
 *
 * @throws for a pattern that names nothing
 */
export function keptModules(linears: readonly SourceLinear[], patterns: readonly string[]): ReadonlySet<string> {
  const kept = new Set<string>();
  for (const pattern of patterns) {
    const wanted = pattern.split(".");
    const found = linears.filter(({ module }) => {
      const parts = module.split(".");
      return parts.length === wanted.length && wanted.every((part, i) => part === "*" || part === parts[i]);
    });
    if (found.length === 0) {
      const [first] = linears;
      throw new Error(
        `Cannot keep "${pattern}": no linear has such a name, expected one like ${first!.module} or model.layers.*.mlp.down_proj`,
      );
    }
    for (const { module } of found) kept.add(module);
  }
  return kept;
}

/** @throws for a linear whose inputs the group does not divide */
export function checkGroups(linears: readonly SourceLinear[], kept: ReadonlySet<string>, group: number): void {
  const bad = linears.find(({ module, inFeatures }) => !kept.has(module) && inFeatures % group !== 0);
  if (bad === undefined) return;
  const { module, inFeatures } = bad;
  const advice = "another --group-size may, or --keep leaves it in 16 bits";
  throw new Error(`Cannot quantize ${module}: groups of ${group} do not divide its ${inFeatures} inputs; ${advice}`);
}
