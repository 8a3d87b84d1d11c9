/** Settings from four places, the first that has a value wins: flag, environment, file, default. */
import { existsSync } from "node:fs";
import type { FlagScalar, FlagSpecs } from "../../runtime/cli/command.ts";
import { kebabCase, type ParsedArguments } from "../../runtime/cli/flags.ts";
import { readConfigFile } from "./config_file.ts";
import { type Environment, readEnvironment, variableName } from "./environment.ts";
import { DEFAULT_FILE, ONLY_FLAGS, SERVE_FLAGS, type Settings } from "./serve_flags.ts";

export type SettingValue = FlagScalar | readonly FlagScalar[];

export interface Resolved {
  readonly settings: Settings;
  /** Of each setting that has a value: "--port", "APIQ_PORT", the file's path, or "default". */
  readonly sources: Readonly<Record<string, string>>;
}

/**
 * @param folder where apiq.toml is looked for, with a slash at its end
 * @throws UsageError that names the variable or the file and key, for a value that cannot be used
 */
export function resolveSettings(
  { flags, given }: Pick<ParsedArguments, "flags" | "given">,
  environment: Environment,
  folder: string,
): Resolved {
  const specs: FlagSpecs = SERVE_FLAGS;
  const fromEnvironment = readEnvironment(specs, environment);
  const path = configPath({ flags, given }, fromEnvironment.config, folder);
  const inFile = Object.fromEntries(Object.entries(specs).filter(([name]) => !ONLY_FLAGS.has(name)));
  const fromFile = path === undefined ? {} : readConfigFile(path, inFile);
  const values: Record<string, unknown> = {};
  const sources: Record<string, string> = {};
  for (const name of Object.keys(specs)) {
    const candidates: readonly (readonly [value: unknown, source: string])[] = [
      [given.has(name) ? flags[name] : undefined, `--${kebabCase(name)}`],
      [fromEnvironment[name], variableName(name)],
      [fromFile[name], path ?? ""],
      [flags[name], "default"],
    ];
    const found = candidates.find(([value]) => value !== undefined);
    values[name] = found?.[0];
    if (found) sources[name] = found[1];
  }
  // Each value was read by its own spec, which is what FlagValues says about it.
  return { settings: values as unknown as Settings, sources };
}

/** The file that was named, or else the one in the working folder. */
function configPath(
  { flags, given }: Pick<ParsedArguments, "flags" | "given">,
  fromEnvironment: SettingValue | undefined,
  folder: string,
): string | undefined {
  const named = given.has("config") ? flags.config : fromEnvironment;
  if (typeof named === "string") return named;
  return existsSync(`${folder}${DEFAULT_FILE}`) ? `${folder}${DEFAULT_FILE}` : undefined;
}
