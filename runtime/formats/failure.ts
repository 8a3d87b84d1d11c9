/** What a message about a bad file names, in the order it is printed. */
export interface FailureDetails {
  file: string;
  tensor?: string;
  /** What is wrong, without a full stop. */
  reason: string;
  received?: unknown;
  expected?: unknown;
}

/** A model, adapter or GGUF file that cannot be used as it is. */
export class FormatError extends Error {
  override readonly name = "FormatError";
  readonly file: string;
  readonly tensor: string | undefined;

  /** `verb` is what was attempted with the tensor, or else with the file. */
  constructor(verb: "find" | "import" | "open" | "parse" | "read" | "use" | "write", details: FailureDetails) {
    const { file, tensor } = details;
    const subject = tensor === undefined ? file : `tensor ${JSON.stringify(tensor)} in ${file}`;
    const received = details.received === undefined ? "" : `, received ${show(details.received)}`;
    const expected = details.expected === undefined ? "" : `, expected ${show(details.expected)}`;
    super(`Cannot ${verb} ${subject}: ${details.reason}${received}${expected}`);
    this.file = file;
    this.tensor = tensor;
  }
}

/** Strings are shown as they are: callers quote what needs quoting. Long values are cut, a hostile file can hold anything. */
function show(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
