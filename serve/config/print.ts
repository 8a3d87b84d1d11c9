/** `apiq serve --print-config`: every setting and where it comes from, as a file that --config takes. */
import { stringify } from "smol-toml";
import { kebabCase } from "../../runtime/cli/flags.ts";
import { ONLY_FLAGS } from "./serve_flags.ts";
import type { Resolved } from "./settings.ts";

export function printConfig({ settings, sources }: Resolved): string {
  const lines = Object.entries(settings)
    .filter(([name]) => !ONLY_FLAGS.has(name))
    .map(([name, value]): readonly [text: string, source: string] => {
      const key = kebabCase(name);
      if (value === undefined) return [`# ${key}`, "not set"];
      return [stringify({ [key]: value }).trim(), sources[name] ?? ""];
    });
  const width = Math.max(...lines.map(([text]) => text.length));
  return lines.map(([text, source]) => `${text.padEnd(width)}  # ${source}`).join("\n");
}
