/** An adapter's folder on the command line: DIR, DIR:replace or DIR:stack. */
import type { AdapterMode } from "../formats/adapter.ts";

export const MODE_NOTE = ":replace or :stack behind DIR says what becomes of the model's calibrated LoRA";

export function parseAdapterFolder(text: string): { dir: string; mode: AdapterMode | undefined } {
  const [, dir = text, mode] = /^(.+):(replace|stack)$/.exec(text) ?? [];
  return { dir, mode: mode as AdapterMode | undefined };
}
