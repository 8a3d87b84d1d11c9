import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { prepareSchema } from "./schema.ts";
import { GrammarError } from "./spec.ts";

function refusal(schema: unknown, strict = true): string {
  const text = typeof schema === "string" ? schema : JSON.stringify(schema);
  return assertThrows(() => prepareSchema(text, strict), GrammarError).message;
}

describe("prepareSchema", () => {
  it("returns what it accepts", () => {
    const schema = {
      type: "object",
      properties: { a: { $ref: "#/$defs/b" } },
      $defs: { b: { type: ["string", "null"] } },
    };
    assertEquals(prepareSchema(JSON.stringify(schema), true), schema);
    assertEquals(prepareSchema("true", true), true);
  });

  it("says where a malformed schema is wrong", () => {
    assertStringIncludes(refusal("{"), "Cannot parse JSON schema");
    assertStringIncludes(refusal(3), "at #, received 3, expected an object");
    assertStringIncludes(
      refusal({ type: "object", properties: { a: { type: "text" } } }),
      'at #/properties/a, type is "text"',
    );
    assertStringIncludes(
      refusal({ type: "array", items: { anyOf: [] } }),
      "at #/items, anyOf must be an array with members",
    );
    assertStringIncludes(
      refusal({ type: "object", properties: { "a/b": false } }),
      "at #/properties/a~1b, false allows no value",
    );
    assertStringIncludes(refusal({ $ref: "http://x/y" }), "expected a place in the same schema");
    assertStringIncludes(refusal({ $ref: "#/$defs/none" }), "names nothing");
  });

  it("refuses with strict what would not be enforced, and lets it pass without", () => {
    const schemas: [object, string][] = [
      [{ not: { type: "string" } }, "not is not enforced"],
      [{ oneOf: [{ type: "string" }] }, "anyOf is"],
      [{ allOf: [{ type: "object" }, { required: ["a"] }] }, "allOf with several members"],
      [{ type: "string", format: "zip" }, 'format "zip"'],
      [{ type: "string", pattern: "a", minLength: 2 }, "minLength beside pattern"],
      [{ anyOf: [{ type: "object" }], properties: {} }, "properties beside anyOf"],
      [{ type: "array", uniqueItems: true }, "uniqueItems"],
      [{ minLength: 2 }, "minLength without a type"],
      [{ type: "string", pattern: "[\\S]" }, "cannot be used"],
    ];
    for (const [schema, reason] of schemas) {
      assertStringIncludes(refusal(schema), reason);
      prepareSchema(JSON.stringify(schema), false);
    }
  });

  it("turns what XGrammar would get wrong into patterns", () => {
    const mended = prepareSchema('{"type":"string","minLength":1,"maxLength":3}', true);
    assertEquals(mended, { type: "string", pattern: '[^"\\\\\\x00-\\x1f]{1,3}' });
    const above = prepareSchema('{"type":"integer","exclusiveMinimum":4.5}', true);
    assertEquals(above, { type: "integer", minimum: 5, maximum: 10 ** 15 - 1 });
    assertStringIncludes(refusal({ type: "number", minimum: 0 }), "minimum is not enforced with strict for a number");
    assertStringIncludes(refusal({ type: "integer", minimum: 3, maximum: 2 }), "no integer is from 3 to 2");
    assertStringIncludes(refusal({ type: "string", minLength: 3, maxLength: 2 }), "0 <= minLength <= maxLength");
    assertStringIncludes(refusal({ type: "object", properties: { 'a"': true } }), "a character that JSON escapes");
    assertStringIncludes(refusal({ $ref: "#/title", title: "x" }), "no schema");
  });

  it("leaves out without strict what XGrammar would not enforce", () => {
    const loose = { oneOf: [{ type: "string", format: "zip" }, { not: {} }], patternProperties: { a: {} }, title: "x" };
    assertEquals(prepareSchema(JSON.stringify(loose), false), { anyOf: [{ type: "string" }, {}], title: "x" });
  });

  it("bounds size, depth, properties and enum values", () => {
    assertStringIncludes(refusal({ default: "x".repeat(120_000) }), "at most 120000");
    assertStringIncludes(refusal(`{"default":${"[".repeat(5000)}${"]".repeat(5000)}}`), "more than 40 levels");
    const properties = Object.fromEntries(Array.from({ length: 5001 }, (_, i) => [`p${i}`, true]));
    assertStringIncludes(refusal({ type: "object", properties }), "more than 5000 properties");
    assertStringIncludes(refusal({ enum: Array.from({ length: 1001 }, (_, i) => i) }), "more than 1000 enum values");
  });
});
