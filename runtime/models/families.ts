/** The model families: what their config.json leaves unsaid. A family is a mapping, never another block. */

export interface Family {
  /** `model_type` in config.json. */
  readonly name: string;
  readonly qkvBias: boolean;
  readonly qkNorm: boolean;
  /** transformers' default for tie_word_embeddings. */
  readonly tiedByDefault: boolean;
  /** When `sliding_window` counts: always, only with use_sliding_window, or never. */
  readonly slidingWindow: "always" | "opt-in" | "never";
}

const families: readonly Family[] = [
  { name: "llama", qkvBias: false, qkNorm: false, tiedByDefault: false, slidingWindow: "never" },
  { name: "mistral", qkvBias: false, qkNorm: false, tiedByDefault: false, slidingWindow: "always" },
  { name: "qwen2", qkvBias: true, qkNorm: false, tiedByDefault: false, slidingWindow: "opt-in" },
  { name: "qwen3", qkvBias: false, qkNorm: true, tiedByDefault: false, slidingWindow: "opt-in" },
];

export const FAMILIES: ReadonlyMap<string, Family> = new Map(families.map((family) => [family.name, family]));
