/** The server's log: one JSON object a line, or a line for people. */
import { prettyLine } from "./pretty.ts";

export type LogFields = Readonly<Record<string, unknown>>;

/** Fields first, so that no text has to be searched for what a field can say. Never throws. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  /** A field `error` that is an Error is written with its stack. */
  error(fields: LogFields, message: string): void;
}

export interface LogOptions {
  readonly format: "json" | "pretty";
  readonly level: "debug" | "info" | "warn" | "error" | "silent";
  /** Takes one line with its end. */
  write(line: string): void;
}

/** Loads pino: under Deno that needs permission to ask for the host's name. */
export async function createLog({ format, level, write }: LogOptions): Promise<Log> {
  const { pino, stdSerializers, stdTimeFunctions } = await import("pino");
  const stream = { write: format === "json" ? write : (line: string) => write(prettyLine(line)) };
  const log: Log = pino(
    {
      level,
      // Whoever collects logs knows the host and the process better.
      base: undefined,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: stdSerializers.errWithCause },
    },
    stream,
  );
  return log;
}
