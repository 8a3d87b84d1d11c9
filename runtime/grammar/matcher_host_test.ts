import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel, MESSAGE_END, MESSAGE_START } from "../../tests/http/fake_model.ts";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { openTokenizer } from "../tokenizer/mod.ts";
import { MatcherHost } from "./matcher_host.ts";
import { GrammarError, type GrammarSpec } from "./spec.ts";
import { allowedTokens, isValid, randomNumbers, walk } from "./test_walk.ts";
import { type GrammarVocabulary, readGrammarVocabulary } from "./vocabulary.ts";

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1, maxLength: 12 },
    code: { type: "string", pattern: '^a.[^b]{2}\\s"\\D[ -~]é$' },
    when: { type: "string", format: "date-time" },
    above: { type: "integer", minimum: 5 },
    below: { type: "integer", exclusiveMaximum: -3 },
    age: { type: "integer", minimum: 0, maximum: 150 },
    kind: { enum: ["cat", "dog", null, 3] },
    tags: { type: "array", items: { type: "string" }, minItems: 1, maxItems: 3 },
    place: { anyOf: [{ type: "null" }, { $ref: "#/$defs/place" }] },
  },
  required: ["name", "age", "tags", "code"],
  additionalProperties: false,
  $defs: {
    place: {
      type: "object",
      properties: { city: { type: "string" }, inside: { $ref: "#/$defs/place" }, at: { type: "number" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

function strict(schema: unknown): GrammarSpec {
  return { type: "json_schema", schema: JSON.stringify(schema), strict: true };
}

/** The byte-level vocabulary of the tests' model, with a few ids that the tokenizer does not have. */
function byteVocabulary(): GrammarVocabulary {
  const model = createFakeModel();
  try {
    return readGrammarVocabulary(model.dir, 270);
  } finally {
    model.remove();
  }
}

function textOf(bytes: readonly number[]): string {
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

describe("vocabulary", () => {
  it("hides special tokens and fills up to the columns of the logits", () => {
    const vocabulary = byteVocabulary();
    assertEquals(vocabulary.kind, "byte_level");
    assertEquals(vocabulary.tokens.length, 270);
    assertEquals(vocabulary.tokens[MESSAGE_START], "");
    assertEquals(vocabulary.tokens[269], "");
    assertEquals(vocabulary.stopTokens, [MESSAGE_END]);
  });
});

describe("matchers over bytes", () => {
  const vocabulary = byteVocabulary();
  let host: MatcherHost;
  beforeAll(async () => {
    host = await MatcherHost.open(vocabulary);
  });

  async function walks(spec: GrammarSpec, count: number): Promise<string[]> {
    const texts: string[] = [];
    for (let seed = 1; seed <= count; seed++) {
      await host.start("walk", spec);
      texts.push(textOf(await walk(host, "walk", vocabulary, randomNumbers(seed), 400)));
      host.finish("walk");
    }
    return texts;
  }

  it("make every random output valid under the schema", async () => {
    for (const text of await walks(strict(PERSON), 20)) {
      const value = JSON.parse(text);
      assert(isValid(value, PERSON), text);
      assert(value.below === undefined || value.below < -3, text);
      assertMatch(value.code, new RegExp(PERSON.properties.code.pattern, "u"));
    }
  });

  it("make every random output of json_object an object", async () => {
    for (const text of await walks({ type: "json_object" }, 10)) {
      assert(isValid(JSON.parse(text), { type: "object" }), text);
    }
  });

  it("allow other properties without strict", async () => {
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
    const texts = await walks({ type: "json_schema", schema: JSON.stringify(schema), strict: false }, 20);
    const values = texts.map((text) => JSON.parse(text) as object);
    for (const value of values) assert(isValid(value, schema), JSON.stringify(value));
    assert(values.some((value) => Object.keys(value).length > 1));
  });

  it("follow EBNF and then allow nothing but the stop token", async () => {
    await host.start("ebnf", { type: "ebnf", grammar: 'root ::= "no" | "never"' });
    assertEquals(allowedTokens(await host.mask("ebnf", [])), [0x6e]);
    assertEquals(allowedTokens(await host.mask("ebnf", [0x6e])), [0x65, 0x6f]);
    assertEquals(allowedTokens(await host.mask("ebnf", [0x6f])), [MESSAGE_END]);
  });

  it("end a run of whitespace in JSON", async () => {
    await host.start("blank", { type: "json_object" });
    let accepted = [..."{"].map((char) => char.charCodeAt(0));
    let blanks = 0;
    while (allowedTokens(await host.mask("blank", accepted)).includes(0x20)) {
      accepted = [0x20];
      blanks++;
    }
    assertEquals(blanks, 64);
  });

  it("refuse a token that the mask forbids, and a grammar that allows none", async () => {
    await host.start("strict", { type: "json_object" });
    const forbidden = await assertRejects(() => host.mask("strict", [0x61]), GrammarError);
    assertStringIncludes(forbidden.message, 'token 97 ("a") is not allowed');
    await host.start("empty", { type: "ebnf", grammar: "root ::= root" });
    const empty = await assertRejects(() => host.mask("empty", []), GrammarError);
    assertStringIncludes(empty.message, "no token");
  });

  it("survive descriptions that make XGrammar abort, and say why", async () => {
    const cases: [GrammarSpec, string][] = [
      [strict({ type: "string", pattern: "(?=a)" }), "Lookahead is not supported"],
      [{ type: "ebnf", grammar: "root ::= ((" }, "EBNF parser error"],
      [{ type: "ebnf", grammar: "x".repeat(200_000) }, "at most 120000"],
    ];
    for (const [spec, reason] of cases) {
      const error = await assertRejects(() => host.start("bad", spec), GrammarError);
      assertStringIncludes(error.message, reason);
    }
    assert(host.usable);
    await host.start("good", { type: "json_object" });
    assertEquals(allowedTokens(await host.mask("good", [])), [0x7b]);
  });

  it("forget the least used of many grammars without harm to matchers that use them", async () => {
    await host.start("first", strict(PERSON));
    for (let i = 0; i < 20; i++) {
      await host.start(`n${i}`, { type: "ebnf", grammar: `root ::= "${i}"` });
      host.finish(`n${i}`);
    }
    assertEquals(allowedTokens(await host.mask("first", [])), [0x7b]);
  });
});

describe("matchers over SmolLM2's vocabulary", () => {
  itShared("make every random output valid under the schema", async () => {
    const dir = sharedPath("models/SmolLM2-135M-Instruct");
    const tokenizer = openTokenizer(dir);
    const vocabulary = readGrammarVocabulary(dir, 49152);
    const host = await MatcherHost.open(vocabulary);
    for (let seed = 1; seed <= 3; seed++) {
      await host.start("walk", strict(PERSON));
      const text = tokenizer.decode(await walk(host, "walk", vocabulary, randomNumbers(seed), 150));
      host.finish("walk");
      assert(isValid(JSON.parse(text), PERSON), text);
    }
  });
});
