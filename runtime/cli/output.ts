/** Where commands print: one object for text, JSON, colours and progress, so that "quiet when piped" is decided in one place. */
import { Progress } from "./progress.ts";

/** A stream one can print to; `process.stdout` is one, tests pass their own. */
export interface TextSink {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Style = keyof typeof STYLES;

export class Output {
  readonly #stdout: TextSink;
  readonly #stderr: TextSink;
  readonly #noColor: boolean;

  /** `environment` is looked at for NO_COLOR (https://no-color.org: any non-empty value switches colours off). */
  constructor(stdout: TextSink, stderr: TextSink, environment: Readonly<Record<string, string | undefined>> = {}) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#noColor = Boolean(environment.NO_COLOR) || environment.TERM === "dumb";
  }

  get isTerminal(): boolean {
    return this.#stdout.isTTY === true;
  }

  /** Prints to standard output as is. */
  write(text: string): void {
    this.#stdout.write(text);
  }

  line(text = ""): void {
    this.#stdout.write(`${text}\n`);
  }

  /** One JSON document on standard output; bigints become decimal strings, which JSON cannot otherwise hold. */
  json(value: unknown): void {
    const text = JSON.stringify(value, (_key, item) => (typeof item === "bigint" ? item.toString() : item), 2);
    this.line(text);
  }

  /** A remark that is not the command's result: goes to standard error, so that piping standard output stays clean. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  error(text: string): void {
    this.#stderr.write(`${this.#paint(this.#stderr, "red", "error:")} ${text}\n`);
  }

  /** Text in a style on a terminal, the plain text otherwise. */
  style(style: Style, text: string): string {
    return this.#paint(this.#stdout, style, text);
  }

  /**
   * A progress bar on standard error: drawn only on a terminal. `unit` "bytes" prints sizes, "percent" the share that is done; any
   * other word is appended. `now` is the clock in milliseconds, for tests.
   */
  progress(label: string, total: number, unit = "", now?: () => number): Progress {
    return new Progress(this.#stderr, label, total, unit, now);
  }

  #paint(sink: TextSink, style: Style, text: string): string {
    return sink.isTTY && !this.#noColor ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
  }
}
