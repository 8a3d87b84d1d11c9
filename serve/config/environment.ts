/** Settings from environment variables: APIQ_MAX_QUEUE for --max-queue. */
import type { FlagSpecs } from "../../runtime/cli/command.ts";
import { kebabCase, readValue } from "../../runtime/cli/flags.ts";
import type { SettingValue } from "./settings.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** maxQueue -> APIQ_MAX_QUEUE */
export function variableName(setting: string): string {
  return `APIQ_${kebabCase(setting).replaceAll("-", "_").toUpperCase()}`;
}

/**
 * An empty variable counts as absent; lists are separated by commas.
 *
 * @throws UsageError that names the variable, for a value that its flag would refuse too
 */
export function readEnvironment(specs: FlagSpecs, environment: Environment): Record<string, SettingValue> {
  const found: Record<string, SettingValue> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const variable = variableName(name);
    const text = environment[variable];
    if (!text) continue;
    found[name] = spec.multiple
      ? text.split(",").map((item) => readValue(variable, spec, item.trim()))
      : readValue(variable, spec, text);
  }
  return found;
}
