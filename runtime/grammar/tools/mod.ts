/** Tool calls: how models write them, as grammars, as prompts, and read back from text. */
export { type ToolFamily, type ToolFormat, toolFormatOf } from "./format.ts";
export { type ToolChoice, type ToolDefinition, toolGrammar } from "./grammar.ts";
export { renderTools, toolPrompt } from "./messages.ts";
export { type AnswerDelta, type ToolCallDelta, ToolCallParser } from "./parser.ts";
