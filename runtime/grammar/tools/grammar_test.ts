import { assert, assertEquals, assertThrows } from "@std/assert";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel, MESSAGE_END } from "../../../tests/http/fake_model.ts";
import { MatcherHost } from "../matcher_host.ts";
import { allowedTokens, isValid, randomNumbers, walk } from "../test_walk.ts";
import { type GrammarVocabulary, readGrammarVocabulary } from "../vocabulary.ts";
import type { ToolFamily } from "./format.ts";
import { type ToolChoice, type ToolDefinition, toolGrammar } from "./grammar.ts";
import { ToolCallParser } from "./parser.ts";

const WEATHER: ToolDefinition = {
  name: "get_weather",
  strict: true,
  parameters: {
    type: "object",
    properties: { city: { type: "string", maxLength: 8 }, unit: { enum: ["c", "f"] } },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};
const LOOSE: ToolDefinition = {
  name: "note",
  parameters: { type: "object", properties: { text: { type: "string" } } },
};
const NOTHING: ToolDefinition = { name: "stop", strict: true };
const TOOLS = [WEATHER, LOOSE, NOTHING];
const FAMILIES: readonly ToolFamily[] = ["hermes", "llama3", "mistral"];

/** One call of each family, as it stands in a text. */
const CALL: Record<ToolFamily, string> = {
  hermes: '<tool_call>\n{"name": "get_weather", "arguments": {"city":"Rome","unit":"c"}}\n</tool_call>',
  llama3: '{"name": "get_weather", "parameters": {"city":"Rome","unit":"c"}}',
  mistral: '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city":"Rome","unit":"c"}}]',
};

describe("toolGrammar", () => {
  let vocabulary: GrammarVocabulary;
  let host: MatcherHost;
  beforeAll(async () => {
    const model = createFakeModel();
    vocabulary = readGrammarVocabulary(model.dir, 258);
    model.remove();
    host = await MatcherHost.open(vocabulary);
  });

  async function start(family: ToolFamily, choice: ToolChoice, parallel: boolean): Promise<void> {
    const spec = toolGrammar(family, TOOLS, choice, parallel);
    assert(spec !== undefined);
    await host.start("x", spec);
  }

  /** How many bytes of `text` the grammar lets through, and whether the answer may end there. */
  async function follow(text: string): Promise<{ bytes: number; mayEnd: boolean }> {
    let accepted: number[] = [];
    let bytes = 0;
    for (const byte of new TextEncoder().encode(text)) {
      if (!allowedTokens(await host.mask("x", accepted)).includes(byte)) return { bytes, mayEnd: false };
      accepted = [byte];
      bytes++;
    }
    return { bytes, mayEnd: allowedTokens(await host.mask("x", accepted)).includes(MESSAGE_END) };
  }

  async function accepts(text: string): Promise<boolean> {
    const { bytes, mayEnd } = await follow(text);
    return bytes === new TextEncoder().encode(text).length && mayEnd;
  }

  for (const family of FAMILIES) {
    it(`makes required answers of ${family} nothing but calls that are valid`, async () => {
      for (let seed = 1; seed <= 6; seed++) {
        await start(family, "required", true);
        const output = await walk(host, "x", vocabulary, randomNumbers(seed), 200);
        const text = new TextDecoder().decode(Uint8Array.from(output));
        const parser = new ToolCallParser(family, { names: TOOLS.map(({ name }) => name) });
        const deltas = [...parser.push(text), ...parser.finish()];
        assertEquals(
          deltas.filter(({ content }) => content !== undefined),
          [],
        );
        const calls = deltas.flatMap((delta) => delta.tool_calls ?? []);
        assertEquals(calls.length, parser.calls);
        assert(calls.length > 0, text);
        for (const { function: call } of calls) {
          const tool = TOOLS.find(({ name }) => name === call.name);
          const value = JSON.parse(call.arguments);
          if (tool === NOTHING) assertEquals(value, {});
          else assert(isValid(value, tool === WEATHER ? WEATHER.parameters : { type: "object" }), text);
        }
      }
    });

    it(`holds ${family} to a named function and to one call`, async () => {
      await start(family, { name: "stop" }, true);
      assertEquals(await accepts(CALL[family]), false);
      await start(family, "required", false);
      assert(await accepts(CALL[family]));
      await start(family, "required", false);
      const more = family === "mistral" ? CALL[family].replace("]", ", ") : `${CALL[family]}\n`;
      assert((await follow(more)).bytes < more.length);
    });

    it(`leaves ${family} the choice between text and a call with auto`, async () => {
      await start(family, "auto", true);
      assert(await accepts("Hello {you}, 1 < 2 and [a]."));
      await start(family, "auto", true);
      assert(await accepts(CALL[family]));
      await start(family, "auto", true);
      assertEquals(await accepts(CALL[family].replace("get_weather", "get_whatever")), false);
      await start(family, "auto", true);
      assertEquals(await accepts(CALL[family].replace('"c"', '"k"')), false);
    });
  }

  it("lets Llama 3 answer with JSON that is no call", async () => {
    for (const text of ['{"city": "Rome"}', "{", '{"na', "<|python"]) {
      await start("llama3", "auto", true);
      assert(await accepts(text), text);
    }
    await start("llama3", "auto", true);
    assert(await accepts(`<|python_tag|>${CALL.llama3}`));
  });

  it("constrains nothing with none or without tools", () => {
    assertEquals(toolGrammar("hermes", TOOLS, "none", true), undefined);
    assertEquals(toolGrammar("hermes", [], "auto", true), undefined);
  });

  it("refuses choices that cannot be met", () => {
    assertThrows(() => toolGrammar("hermes", TOOLS, { name: "other" }, true), Error, '"other"');
    assertThrows(() => toolGrammar("hermes", [], "required", true), Error, "received 0 tools");
  });
});
