/** A line of the log for people: time, level, message, then the fields as name=value. */

interface LogLine {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
  readonly error?: { readonly stack?: string };
}

/** @param json a line as the log writes it */
export function prettyLine(json: string): string {
  const { level, time, msg, error, ...fields } = JSON.parse(json) as LogLine;
  const rest = Object.entries(fields).map(([name, value]) => ` ${name}=${fieldText(value)}`);
  const stack = error?.stack === undefined ? "" : `\n${error.stack}`;
  return `${time.slice(11, 19)} ${level.toUpperCase().padEnd(5)} ${msg}${rest.join("")}${stack}\n`;
}

/** Quoted where it could be taken for something else, or could do something to a terminal. */
function fieldText(value: unknown): string {
  return typeof value === "string" && /^[!#-~]+$/.test(value) ? value : JSON.stringify(value);
}
