/** Help texts, composed from the same specs that parse the arguments. */
import type { Command, FlagSpec } from "./command.ts";
import { kebabCase, placeholder } from "./flags.ts";
import type { Output } from "./output.ts";

/** The list of commands, for `apiq --help`. */
export function globalHelp(program: string, summary: string, commands: readonly Command[], out: Output): string {
  const rows = commands.map((command) => [command.name, command.summary] as const);
  return [
    `${out.style("bold", program)}: ${summary}`,
    "",
    `Usage: ${program} COMMAND [--flags]`,
    "",
    out.style("bold", "Commands"),
    ...table(rows, out),
    "",
    `Every command explains itself: ${program} COMMAND --help. ${program} --version prints the version.`,
  ].join("\n");
}

/** Usage, description, flags and examples of one command. */
export function commandHelp(program: string, command: Command, out: Output): string {
  const positionals = (command.positionals ?? []).map(({ name, required, multiple }) => {
    const shown = multiple ? `${name}...` : name;
    return required ? shown : `[${shown}]`;
  });
  const flags = Object.entries(command.flags);
  const required = flags.filter(([, spec]) => spec.required).map(([name, spec]) => flagTitle(name, spec));
  const usage = [program, command.name, ...positionals, ...required, "[--flags]"].join(" ");
  const lines = [`Usage: ${usage}`, "", command.description ?? sentence(command.summary)];
  if (command.positionals?.length) {
    const rows = command.positionals.map(({ name, summary }) => [name, summary] as const);
    lines.push("", out.style("bold", "Arguments"), ...table(rows, out));
  }
  const rows = flags.map(([name, spec]) => [flagTitle(name, spec), flagSummary(spec)] as const);
  lines.push("", out.style("bold", "Flags"), ...table([...rows, ["--help", "print this"]], out));
  if (command.examples?.length) {
    lines.push("", out.style("bold", "Examples"), ...command.examples.map((example) => `  ${example}`));
  }
  return lines.join("\n");
}

function flagTitle(name: string, spec: FlagSpec): string {
  return `--${spec.undecided ? "[no-]" : ""}${kebabCase(name)} ${placeholder(spec)}`.trimEnd();
}

function flagSummary(spec: FlagSpec): string {
  const notes = [];
  if (spec.default !== undefined) notes.push(`default ${spec.default}`);
  if (spec.multiple) notes.push("may be repeated");
  return notes.length > 0 ? `${spec.summary} (${notes.join(", ")})` : spec.summary;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function table(rows: readonly (readonly [string, string])[], out: Output): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${out.style("cyan", left)}${" ".repeat(width - left.length)}  ${right}`);
}
