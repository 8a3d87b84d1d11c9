import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { toolFormatOf } from "./format.ts";

describe("toolFormatOf", () => {
  it("knows the families by their templates", () => {
    const hermes = "{%- if tools %}<tools>{{ tool | tojson }}</tools> within <tool_call></tool_call>{% endif %}";
    assertEquals(toolFormatOf(hermes, []), { family: "hermes", inTemplate: true });
    const llama = `{%- if tools is not none %}{"name": function name, "parameters": dictionary}{{ '"parameters": ' }}{% endif %}`;
    assertEquals(toolFormatOf(llama, ["<|python_tag|>"]), { family: "llama3", inTemplate: true });
    const mistral = "{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS] [";
    assertEquals(toolFormatOf(mistral, ["[TOOL_CALLS]"]), { family: "mistral", inTemplate: true });
  });

  it("falls back to its own prompt for templates without tools or with calls of another kind", () => {
    const fallback = { family: "hermes", inTemplate: false };
    assertEquals(toolFormatOf(undefined, []), fallback);
    assertEquals(toolFormatOf("{% for message in messages %}{{ message.content }}{% endfor %}", []), fallback);
    assertEquals(toolFormatOf("{% if tools %}[TOOL_CALLS]name[ARGS]{% endif %}", []), fallback);
    assertEquals(toolFormatOf("{% if tools %}<tool_call><function=f></tool_call>{% endif %}", []), fallback);
    assertEquals(toolFormatOf("{% if tools %}{{ tools }}{% endif %}", ["<|python_tag|>"]), fallback);
  });
});
