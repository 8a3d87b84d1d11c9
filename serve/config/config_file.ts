/** apiq.toml: the flags of `serve` as keys of the same names, without dashes in front (https://toml.io). */
import { readFileSync } from "node:fs";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { type FlagScalar, type FlagSpec, type FlagSpecs, UsageError } from "../../runtime/cli/command.ts";
import { expectation, inRange, kebabCase } from "../../runtime/cli/flags.ts";
import { parseBytes } from "../../runtime/cli/format.ts";
import { suggestion } from "../../runtime/cli/suggest.ts";
import type { SettingValue } from "./settings.ts";

/** @throws UsageError that names the file, the key, what was received and what was expected */
export function readConfigFile(path: string, specs: FlagSpecs): Record<string, SettingValue> {
  const names = new Map(Object.keys(specs).map((name) => [kebabCase(name), name]));
  const shape = Object.fromEntries(Object.entries(specs).map(([name, spec]) => [kebabCase(name), schemaOf(spec)]));
  const document = readToml(path);
  const result = z.strictObject(shape).safeParse(document);
  if (!result.success) throw describeIssue(path, result.error.issues[0], document, [...names.keys()]);
  const found: Record<string, SettingValue> = {};
  for (const [key, value] of Object.entries(result.data)) {
    if (value !== undefined) found[names.get(key) ?? key] = value;
  }
  return found;
}

function readToml(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${path}: ${error instanceof Error ? error.message : error}`);
  }
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split("\n")[0]?.replace(/^Invalid TOML document: /, "");
    throw new UsageError(`Cannot read ${path}: line ${error.line}, column ${error.column}: ${reason}`);
  }
}

/** A value as TOML has it: sizes may be text ("4M") as on the command line, a list stands for a flag that is repeated. */
function schemaOf(spec: FlagSpec): z.ZodType<SettingValue | undefined> {
  const one = z.unknown().transform((value, context): FlagScalar => {
    const read = readTomlValue(spec, value);
    if (read !== undefined) return read;
    context.addIssue({ code: "custom", message: expectation(spec) });
    return z.NEVER;
  });
  return (spec.multiple ? z.array(one, { error: `a list, each ${expectation(spec)}` }) : one).optional();
}

function readTomlValue(spec: FlagSpec, value: unknown): FlagScalar | undefined {
  switch (spec.type) {
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "string":
      return typeof value === "string" && (!spec.choices || spec.choices.includes(value)) ? value : undefined;
    case "bytes":
      if (typeof value === "string") return inRange(spec, parseBytes(value));
      break;
  }
  return typeof value === "number" ? inRange(spec, value) : undefined;
}

function describeIssue(
  path: string,
  issue: z.core.$ZodIssue | undefined,
  document: Record<string, unknown>,
  keys: readonly string[],
): UsageError {
  if (issue?.code === "unrecognized_keys") {
    const [key = ""] = issue.keys;
    return new UsageError(`Cannot use ${path}: unknown key ${key}${suggestion(key, keys)}`);
  }
  const [key = "", ...rest] = issue?.path.map(String) ?? [];
  const value = rest.reduce<unknown>((found, at) => (found as Record<string, unknown>)[at], document[key]);
  const received = JSON.stringify(value, (_key, item) => (typeof item === "bigint" ? `${item}` : item));
  return new UsageError(`Cannot use ${path}: ${key}: received ${received}, expected ${issue?.message}`);
}
