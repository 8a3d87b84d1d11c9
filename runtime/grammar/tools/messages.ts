/** OpenAI's messages about tools, as a chat template takes them. */
import { createHash } from "node:crypto";
import type { ChatMessage } from "../../tokenizer/mod.ts";
import type { ToolFormat } from "./format.ts";
import type { ToolDefinition } from "./grammar.ts";

/** An assistant's call, as OpenAI's API has it: arguments are JSON text. */
interface MessageToolCall {
  readonly id?: string;
  readonly function: { readonly name: string; readonly arguments: string };
}

/**
 * What to render: the messages, and the tools to hand to the template (undefined: none, or they are in the messages).
 * Content has to be text already.
 *
 * - Arguments become objects, because templates serialise them (or concatenate them as they are, which an object survives
 *   only in templates written for it: all three families' are).
 * - Mistral's templates refuse ids of other than 9 letters and digits, so ids are shortened, the same way on both sides.
 * - Where the template knows no tools, they are described in a system message, and calls and results become plain text.
 */
export function renderTools(
  format: ToolFormat,
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[],
): { messages: ChatMessage[]; tools: unknown[] | undefined } {
  if (!format.inTemplate) return { messages: withPrompt(messages.map(asPlainText), tools), tools: undefined };
  const shorten = format.family === "mistral" ? mistralId : (id: string) => id;
  return {
    messages: messages.map((message) => forTemplate(message, shorten)),
    tools: tools.length === 0 ? undefined : tools.map(asFunction),
  };
}

function asFunction({ name, description = "", parameters }: ToolDefinition): unknown {
  return { type: "function", function: { name, description, parameters: parameters ?? NO_PARAMETERS } };
}

const NO_PARAMETERS = { type: "object", properties: {} };

function forTemplate(message: ChatMessage, shorten: (id: string) => string): ChatMessage {
  const result = typeof message.tool_call_id === "string" ? { tool_call_id: shorten(message.tool_call_id) } : {};
  const calls = callsOf(message);
  if (calls.length === 0) return { ...message, ...result };
  const tool_calls = calls.map(({ id = "", function: { name, arguments: text } }) => ({
    id: shorten(id),
    type: "function",
    function: { name, arguments: parsed(text) },
  }));
  return { ...message, ...result, tool_calls };
}

function callsOf(message: ChatMessage): readonly MessageToolCall[] {
  return Array.isArray(message.tool_calls) ? message.tool_calls : [];
}

/** Arguments that a model wrote and nobody checked: what is not JSON stays text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function mistralId(id: string): string {
  if (/^[a-zA-Z0-9]{9}$/.test(id)) return id;
  return createHash("sha256").update(id).digest("hex").slice(0, 9);
}

/** A message of a template without tools: calls as the model is asked to write them, results as a user's message. */
function asPlainText(message: ChatMessage): ChatMessage {
  const content = typeof message.content === "string" ? message.content : "";
  if (message.role === "tool") {
    return { role: "user", content: `<tool_response>\n${content}\n</tool_response>` };
  }
  const calls = callsOf(message).map(({ function: { name, arguments: text } }) => {
    return `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": ${text}}\n</tool_call>`;
  });
  return calls.length === 0 ? message : { role: message.role, content: [content, ...calls].filter(Boolean).join("\n") };
}

/** Puts the description of the tools before what the first system message says. Results in a row become one message. */
function withPrompt(messages: readonly ChatMessage[], tools: readonly ToolDefinition[]): ChatMessage[] {
  const joined: ChatMessage[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    const areResults = [last, message].every((one) => String(one?.content).startsWith("<tool_response>"));
    if (areResults && last?.role === "user") {
      joined[joined.length - 1] = { ...last, content: `${last.content}\n${message.content}` };
    } else joined.push(message);
  }
  if (tools.length === 0) return joined;
  const prompt = toolPrompt(tools);
  const [first, ...others] = joined;
  if (first?.role !== "system") return [{ role: "system", content: prompt }, ...joined];
  return [{ ...first, content: `${first.content}\n\n${prompt}` }, ...others];
}

/** What a model whose template knows no tools is told about them. */
export function toolPrompt(tools: readonly ToolDefinition[]): string {
  const list = tools.map(({ name, description, parameters }) =>
    JSON.stringify({ name, description, parameters: parameters ?? NO_PARAMETERS }),
  );
  return `You can call functions. They are, one a line, with the JSON schema of their arguments:
${list.join("\n")}

To call a function, write its name and arguments as JSON between tags, and nothing after it:
<tool_call>
{"name": "the function's name", "arguments": {"an argument": "its value"}}
</tool_call>
You will be given the result between <tool_response> and </tool_response>. Answer without a call when you need none.`;
}
