import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { ToolFamily } from "./format.ts";
import { type AnswerDelta, ToolCallParser } from "./parser.ts";

interface Answer {
  content: string;
  calls: { id: string; name: string; arguments: string }[];
}

const NAMES = ["f", "get_weather"];

function collect(family: ToolFamily, pieces: readonly string[]): Answer {
  let ids = 0;
  const parser = new ToolCallParser(family, { names: NAMES, newId: () => `call_${ids++}` });
  const deltas: AnswerDelta[] = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.finish()];
  const answer: Answer = { content: "", calls: [] };
  for (const { content, tool_calls = [] } of deltas) {
    answer.content += content ?? "";
    for (const { index, id, type, function: call } of tool_calls) {
      if (id !== undefined) {
        assertEquals([index, type], [answer.calls.length, "function"]);
        answer.calls.push({ id, name: call.name!, arguments: "" });
      }
      answer.calls[index].arguments += call.arguments;
    }
  }
  assertEquals(parser.calls, answer.calls.length);
  return answer;
}

/** The answer of a text, which must be the same wherever the text is cut. */
function parse(family: ToolFamily, text: string): { content: string; calls: [name: string, args: string][] } {
  const whole = collect(family, [text]);
  for (let cut = 1; cut < text.length; cut++) {
    assertEquals(collect(family, [text.slice(0, cut), text.slice(cut)]), whole, `cut at ${cut}`);
  }
  assertEquals(collect(family, [...text]), whole);
  return { content: whole.content, calls: whole.calls.map((call) => [call.name, call.arguments]) };
}

describe("ToolCallParser", () => {
  it("reads Hermes calls and the text around them", () => {
    const text =
      'Let me see.\n\n<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": "}</tool_call>\\""}]}}\n</tool_call>\n' +
      '<tool_call>{"arguments":{},"id":7,"name":"get_weather"}</tool_call> Done.';
    assertEquals(parse("hermes", text), {
      content: "Let me see. Done.",
      calls: [
        ["f", '{"a": [1, {"b": "}</tool_call>\\""}]}'],
        ["get_weather", "{}"],
      ],
    });
  });

  it("reads Llama 3 calls, with the tag and without", () => {
    const call = '{"name": "f", "parameters": {"a": "é\\u00e9"}}';
    const calls: [string, string][] = [["f", '{"a": "é\\u00e9"}']];
    assertEquals(parse("llama3", call), { content: "", calls });
    assertEquals(parse("llama3", `\n<|python_tag|>${call}\n`), { content: "", calls });
    assertEquals(parse("llama3", `${call}; ${call}`), { content: "", calls: [...calls, ...calls] });
    const typed = '{"type": "function", "name": "f", "parameters": {"a": "é\\u00e9"}}';
    assertEquals(parse("llama3", typed), { content: "", calls });
  });

  it("reads Mistral calls", () => {
    const text = 'I will.[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 2}}]';
    assertEquals(parse("mistral", text), {
      content: "I will.",
      calls: [
        ["f", '{"a": 1}'],
        ["f", '{"a": 2}'],
      ],
    });
  });

  it("takes arguments that are a string of JSON, and none at all", () => {
    const text =
      '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"\\\\n\\"}"}</tool_call><tool_call>{"name":"f"}</tool_call>';
    assertEquals(parse("hermes", text).calls, [
      ["f", '{"a": "\\n"}'],
      ["f", "{}"],
    ]);
  });

  it("leaves as content what is no call", () => {
    const texts: [ToolFamily, string][] = [
      ["hermes", "  1 < 2, <tool> and <tool_cal 😀\n"],
      ["hermes", "<tool_call>\nnot JSON\n</tool_call>"],
      ["hermes", '<tool_call>{"arguments": {}}</tool_call>'],
      ["hermes", "<tool_call>\n{"],
      ["llama3", '{"name": "Bob", "parameters": {}}'],
      ["llama3", '{"a": 1}'],
      ["llama3", 'Say {"name": "f", "parameters": {}}'],
      ["llama3", "<|python"],
      ["mistral", '[{"name": "f", "arguments": {}}]'],
      ["mistral", "[TOOL_CALLS]hello"],
      ["hermes", "  \n"],
    ];
    for (const [family, text] of texts) assertEquals(parse(family, text), { content: text, calls: [] });
  });

  it("passes on what there is of a call that is cut off", () => {
    assertEquals(parse("hermes", '<tool_call>{"name": "f", "arguments": {"a": [1').calls, [["f", '{"a": [1']]);
  });

  it("streams arguments as they come", () => {
    const parser = new ToolCallParser("hermes", { names: NAMES });
    const [first] = parser.push('<tool_call>{"name": "f", "arguments": {"a');
    assertMatch(first.tool_calls![0].id!, /^call_[0-9a-f]{24}$/);
    assertEquals(first.tool_calls![0].function, { name: "f", arguments: '{"a' });
    assertEquals(parser.push('": 1'), [{ tool_calls: [{ index: 0, function: { arguments: '": 1' } }] }]);
    assertEquals(parser.push("}}\n</tool"), [{ tool_calls: [{ index: 0, function: { arguments: "}" } }] }]);
    assertEquals(parser.push("_call>"), []);
  });
});
