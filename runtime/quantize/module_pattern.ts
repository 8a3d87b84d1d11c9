/** Linears by name: patterns of --keep and --bits-for. */
import type { SourceLinear } from "./source.ts";

/**
 * The linears that a pattern names. Of its dotted parts "*" stands for any one, and (a|b) for one of several.
 *
 * @param doing what for, as in "keep"
 * @throws for a pattern that names nothing
 */
export function matchingLinears(
  linears: readonly SourceLinear[],
  pattern: string,
  doing: string,
): readonly SourceLinear[] {
  const wanted = pattern.split(".").map((part) => part.replace(/^\((.+)\)$/, "$1").split("|"));
  const found = linears.filter(({ module }) => {
    const parts = module.split(".");
    return (
      parts.length === wanted.length && wanted.every((names, i) => names.includes("*") || names.includes(parts[i]!))
    );
  });
  if (found.length > 0) return found;
  const [first] = linears;
  throw new Error(
    `Cannot ${doing} "${pattern}": no linear has such a name, expected one like ${first!.module} or model.layers.*.mlp.down_proj`,
  );
}
