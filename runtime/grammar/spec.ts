/** What a request's output may be constrained to, and how large a description of it may be. */

/** Part of a structural tag: XGrammar's formats, as far as apiq uses them. */
export type TagFormat =
  | { type: "any_text" }
  | { type: "const_string"; value: string }
  /** A JSON value under a schema (an object or a boolean); `strict` as in GrammarSpec. */
  | { type: "json_schema"; json_schema: unknown; strict: boolean }
  | { type: "grammar"; grammar: string }
  | { type: "sequence"; elements: readonly TagFormat[] }
  | { type: "or"; elements: readonly TagFormat[] }
  | Tag
  /** Free text in which each of `triggers` must go on as one of `tags`. */
  | {
      type: "triggered_tags";
      triggers: readonly string[];
      tags: readonly Tag[];
      at_least_one?: boolean;
      stop_after_first?: boolean;
    }
  /** Nothing but `tags`, with `separator` between them. */
  | {
      type: "tags_with_separator";
      tags: readonly Tag[];
      separator: string;
      at_least_one?: boolean;
      stop_after_first?: boolean;
    };

export interface Tag {
  type: "tag";
  begin: string;
  content: TagFormat;
  end: string;
}

export type GrammarSpec =
  /** Any JSON object. */
  | { type: "json_object" }
  /**
   * JSON under a schema, given as JSON text.
   * - strict: objects hold only the properties that are named, and a keyword that would not be enforced is an error.
   * - not strict: other properties are allowed where the schema does not forbid them, and what cannot be enforced is not.
   */
  | { type: "json_schema"; schema: string; strict: boolean }
  /** XGrammar's EBNF (GBNF-like), starting at the rule `root`. */
  | { type: "ebnf"; grammar: string }
  | { type: "structural_tag"; format: TagFormat };

/** OpenAI's limits for structured outputs, which serve well: beyond them a grammar takes seconds and hundreds of megabytes. */
export const LIMITS = {
  /** Of a schema, or of all schemas of a request's tools together, in characters of JSON. */
  characters: 120_000,
  properties: 5_000,
  enumValues: 1_000,
  /** JSON nesting; OpenAI allows ten objects in one another, which takes three levels each. */
  depth: 40,
} as const;

/** The description of a grammar is at fault: a user may read the message. */
export class GrammarError extends Error {
  override readonly name = "GrammarError";
}
