/** What goes wrong in a run, as one line that says what to do. */
import { causeOf, isAbort } from "../quantize/failures.ts";

/** A run that ended early. Its message is one line; the state it continues from is where it says. */
export class FinetuneError extends Error {
  override readonly name = "FinetuneError";
}

/**
 * @param doing what was under way, as in "make step 3 of 30"
 * @param kept what remains, a sentence
 */
export function explain(error: unknown, doing: string, kept: string): Error {
  if (isAbort(error)) return error as Error;
  const help = "a smaller --seq-len, --micro-batch or --rank needs less";
  return new FinetuneError(`Cannot ${doing}: ${causeOf(error, help)}. ${kept}`, { cause: error });
}
