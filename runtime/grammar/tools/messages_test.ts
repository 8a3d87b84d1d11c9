import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { renderTools } from "./messages.ts";

const TOOLS = [{ name: "f", description: "Does it.", parameters: { type: "object", properties: { a: {} } } }];
const CONVERSATION = [
  { role: "user", content: "Do." },
  {
    role: "assistant",
    content: null,
    tool_calls: [{ id: "call_123", type: "function", function: { name: "f", arguments: '{"a": 1}' } }],
  },
  { role: "tool", tool_call_id: "call_123", content: "done" },
  { role: "tool", tool_call_id: "call_124", content: "again" },
];

describe("renderTools", () => {
  it("hands templates objects instead of JSON text", () => {
    const { messages, tools } = renderTools({ family: "hermes", inTemplate: true }, CONVERSATION, TOOLS);
    assertEquals(tools, [{ type: "function", function: TOOLS[0] }]);
    const call = { id: "call_123", type: "function", function: { name: "f", arguments: { a: 1 } } };
    assertEquals(messages[1].tool_calls, [call]);
    assertEquals(messages[2], CONVERSATION[2]);
  });

  it("gives Mistral ids of nine characters, the same for call and result", () => {
    const { messages } = renderTools({ family: "mistral", inTemplate: true }, CONVERSATION, TOOLS);
    const [call] = messages[1].tool_calls as { id: string }[];
    assertEquals(call.id.length, 9);
    assertEquals(messages[2].tool_call_id, call.id);
  });

  it("describes tools in a system message where the template does not know them", () => {
    const { messages, tools } = renderTools({ family: "hermes", inTemplate: false }, CONVERSATION, TOOLS);
    assertEquals(tools, undefined);
    assertStringIncludes(String(messages[0].content), '{"name":"f","description":"Does it.","parameters":');
    assertEquals(messages.slice(1), [
      { role: "user", content: "Do." },
      { role: "assistant", content: '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>' },
      {
        role: "user",
        content: "<tool_response>\ndone\n</tool_response>\n<tool_response>\nagain\n</tool_response>",
      },
    ]);
  });

  it("adds the description to the system message that is there, and nothing without tools", () => {
    const system = [{ role: "system", content: "Be brief." }];
    const format = { family: "hermes", inTemplate: false } as const;
    assertEquals(renderTools(format, system, []).messages, system);
    const [first] = renderTools(format, system, TOOLS).messages;
    assertStringIncludes(String(first.content), "Be brief.\n\nYou can call functions.");
  });
});
