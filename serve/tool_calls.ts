/** Tools and output formats of a request: the grammar they make, and answers read back as text and calls. */

import type { TokenLogprob } from "../runtime/engine/protocol.ts";

import { GrammarError, type GrammarSpec, prepareSchema, type TagFormat } from "../runtime/grammar/mod.ts";
import {
  type AnswerDelta,
  ToolCallParser,
  type ToolChoice,
  type ToolDefinition,
  type ToolFamily,
  toolGrammar,
} from "../runtime/grammar/tools/mod.ts";
import { invalidRequest } from "./errors.ts";
import type { ChoiceDelta } from "./generation.ts";
import type { TextFormat } from "./schemas/tools.ts";

export interface ToolRequest {
  readonly tools: readonly ToolDefinition[];
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
  readonly format: TextFormat;
  /** The request's field that holds the format, for errors. */
  readonly formatParam: string;
}

/** What the answer must be; undefined if anything will do. Throws an ApiError for tools, choices or schemas that cannot be used. */
export function answerGrammar(request: ToolRequest, family: ToolFamily): GrammarSpec | undefined {
  const { tools, toolChoice, parallelToolCalls: parallel, format, formatParam } = request;
  checkTools(request);
  const text = format.type === "text" ? undefined : formatGrammar(format, formatParam);
  const calls = toolGrammar(family, tools, toolChoice, parallel);
  if (!calls || !text) return calls ?? text;
  // Who has to call a function has no text to format.
  if (toolChoice !== "auto") return calls;
  const only = toolGrammar(family, tools, "required", parallel);
  if (only?.type !== "structural_tag") return text;
  return { type: "structural_tag", format: { type: "or", elements: [only.format, schemaFormat(format)] } };
}

function checkTools({ tools, toolChoice }: ToolRequest): void {
  const names = new Set<string>();
  for (const [index, { name, parameters, strict }] of tools.entries()) {
    if (names.has(name)) throw invalidRequest(`Cannot use tools: two of them are called "${name}"`, "tools");
    names.add(name);
    if (strict) checked(parameters ?? {}, true, `tools.${index}`);
  }
  if (toolChoice === "required" && tools.length === 0) {
    throw invalidRequest('Cannot use tool_choice: "required" needs tools', "tool_choice");
  }
  if (typeof toolChoice === "object" && !names.has(toolChoice.name)) {
    throw invalidRequest(`Cannot use tool_choice: no tool is called "${toolChoice.name}"`, "tool_choice");
  }
}

function formatGrammar(format: TextFormat, param: string): GrammarSpec | undefined {
  if (format.type !== "json_schema") return format.type === "json_object" ? { type: "json_object" } : undefined;
  const { strict } = format;
  return { type: "json_schema", schema: checked(format.schema, strict, param), strict };
}

function schemaFormat(format: TextFormat): TagFormat {
  return format.type === "json_schema"
    ? { type: "json_schema", json_schema: format.schema, strict: format.strict }
    : { type: "json_schema", json_schema: { type: "object" }, strict: false };
}

/** The schema as JSON text. Throws an ApiError where the engine would refuse it, which could not name the parameter. */
function checked(schema: unknown, strict: boolean, param: string): string {
  const text = JSON.stringify(schema);
  try {
    prepareSchema(text, strict);
  } catch (error) {
    if (error instanceof GrammarError) throw invalidRequest(error.message, param);
    throw error;
  }
  return text;
}

export interface ChatDelta {
  readonly index: number;
  /** Text and parts of calls, in order. */
  readonly parts: readonly AnswerDelta[];
  /** How many tokens were generated for this delta. */
  readonly tokens: number;
  readonly logprobs?: readonly TokenLogprob[];
  readonly finish?: ChatFinish;
}

export type ChatFinish = "stop" | "length" | "tool_calls";

/** Reads the deltas of all choices as text and calls. `family` undefined: there are no tools, all is text. */
export async function* readAnswers(
  deltas: AsyncGenerator<ChoiceDelta, void, void>,
  family: ToolFamily | undefined,
  tools: readonly ToolDefinition[],
): AsyncGenerator<ChatDelta, void, void> {
  const names = tools.map(({ name }) => name);
  const parsers = new Map<number, ToolCallParser>();
  for await (const { text, finish, ...delta } of deltas) {
    if (family === undefined) {
      yield { ...delta, parts: text === "" ? [] : [{ content: text }], ...(finish && { finish }) };
      continue;
    }
    const parser = parsers.get(delta.index) ?? new ToolCallParser(family, { names });
    parsers.set(delta.index, parser);
    const parts = parser.push(text);
    if (!finish) {
      yield { ...delta, parts };
      continue;
    }
    parts.push(...parser.finish());
    yield { ...delta, parts, finish: finish === "stop" && parser.calls > 0 ? "tool_calls" : finish };
  }
}
