/** What an answer of a model with tools may look like, as a grammar: free text and tool calls, as tool_choice allows. */
import type { GrammarSpec, Tag, TagFormat } from "../spec.ts";
import type { ToolFamily } from "./format.ts";

/** A function that a model may call; `parameters` is a JSON schema for its arguments. */
export interface ToolDefinition {
  readonly name: string;
  readonly description?: string;
  readonly parameters?: unknown;
  /** Arguments are held to the schema; otherwise to being a JSON object. */
  readonly strict?: boolean;
}

export type ToolChoice = "none" | "auto" | "required" | { readonly name: string };

/**
 * @param parallel whether an answer may hold more than one call
 * @returns undefined when nothing constrains the answer: no tools, or tool_choice "none"
 * @throws {Error} when tool_choice names a function that is not among the tools, or requires one of none.
 */
export function toolGrammar(
  family: ToolFamily,
  tools: readonly ToolDefinition[],
  choice: ToolChoice,
  parallel: boolean,
): GrammarSpec | undefined {
  if (choice === "none" || (choice === "auto" && tools.length === 0)) return undefined;
  const callable = typeof choice === "object" ? tools.filter(({ name }) => name === choice.name) : tools;
  if (callable.length === 0) {
    const wanted = typeof choice === "object" ? `function ${JSON.stringify(choice.name)}` : "a function";
    throw new Error(`Cannot require ${wanted}: received ${tools.length} tools, none of them it`);
  }
  // A named function is to be called, not to be called repeatedly.
  const isSingle = !parallel || typeof choice === "object";
  return { type: "structural_tag", format: FORMATS[family](callable, choice !== "auto", isSingle) };
}

type FormatOf = (tools: readonly ToolDefinition[], isRequired: boolean, isSingle: boolean) => TagFormat;

const FORMATS: Record<ToolFamily, FormatOf> = {
  hermes(tools, isRequired, isSingle) {
    const tags = calls(tools, "arguments", "<tool_call>\n", "\n</tool_call>");
    if (isRequired) return list(tags, "\n", isSingle);
    return { type: "triggered_tags", triggers: ["<tool_call>"], tags, stop_after_first: isSingle };
  },

  // Called only at the beginning: a "{" later in a text is just that. Several calls are constrained one by one.
  llama3(tools, isRequired, isSingle) {
    const inner = list(calls(tools, "parameters"), "; ", isSingle);
    const tagged = list(calls(tools, "parameters", "<|python_tag|>"), "; ", true);
    if (isRequired) return inner;
    const other: TagFormat = { type: "grammar", grammar: notBeginningWith(['{"name"', "<|python_tag|>"]) };
    return { type: "or", elements: [inner, tagged, other] };
  },

  mistral(tools, isRequired, isSingle) {
    const content = list(calls(tools, "arguments"), ", ", isSingle);
    const tag: Tag = { type: "tag", begin: "[TOOL_CALLS][", content, end: "]" };
    if (isRequired) return tag;
    return { type: "triggered_tags", triggers: ["[TOOL_CALLS]"], tags: [tag], stop_after_first: true };
  },
};

function list(tags: readonly Tag[], separator: string, isSingle: boolean): TagFormat {
  return { type: "tags_with_separator", tags, separator, at_least_one: true, stop_after_first: isSingle };
}

/** One tag for each function, which fixes the name and leaves the arguments to its schema. */
function calls(tools: readonly ToolDefinition[], key: "arguments" | "parameters", before = "", after = ""): Tag[] {
  return tools.map(({ name, parameters, strict }) => ({
    type: "tag",
    begin: `${before}{"name": ${JSON.stringify(name)}, "${key}": `,
    content: {
      type: "json_schema",
      // A strict function without parameters takes none.
      json_schema: strict ? (parameters ?? { type: "object", properties: {} }) : { type: "object" },
      strict: strict ?? false,
    },
    end: `}${after}`,
  }));
}

/** EBNF of all texts that begin with none of `prefixes`: each follows one of them for a while and then leaves them all. */
function notBeginningWith(prefixes: readonly string[]): string {
  const alternatives = ['""'];
  const followed = new Set(prefixes.flatMap((prefix) => Array.from(prefix, (_, length) => prefix.slice(0, length))));
  for (const text of followed) {
    const next = prefixes.filter((prefix) => prefix.startsWith(text)).map((prefix) => prefix[text.length]);
    alternatives.push(`${quoted(text)} [^\\0${next.map(inClass).join("")}] any`);
    if (text !== "") alternatives.push(quoted(text));
  }
  return `root ::= ${alternatives.join(" | ")}\nany ::= [^\\0]*\n`;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function inClass(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
