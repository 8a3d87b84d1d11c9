import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { jsonPattern, lengthPattern } from "./json_pattern.ts";

/** Whether a JSON string, as it stands between its quotes, matches what XGrammar would be given. */
function matches(pattern: string, json: string): boolean {
  return new RegExp(`^(?:${pattern})$`, "u").test(json);
}

describe("jsonPattern", () => {
  it("leaves patterns alone that JSON has nothing against", () => {
    for (const pattern of ["^[a-z]+$", "a{2,3}|(?:b|c)*\\d\\w", "\\+\\(x\\)"]) {
      assert(new RegExp(jsonPattern(pattern), "u").source.length > 0);
    }
    assertEquals(jsonPattern("^ab?c$"), "^ab?c$");
  });

  it("takes what JSON has to escape out of what stands for many characters", () => {
    for (const pattern of [".", "[^a]", "[ -~]", "\\S", "\\D", "\\W", "[\\x00-\\x7f]"]) {
      const safe = jsonPattern(pattern);
      assert(matches(safe, "!"), safe);
      for (const char of ['"', "\\", "\n", "\0", "\t"]) assertEquals(matches(safe, char), false, safe);
    }
  });

  it("escapes what stands for one character", () => {
    assert(matches(jsonPattern('a"b'), 'a\\"b'));
    assert(matches(jsonPattern("a\\\\b"), "a\\\\b"));
    assert(matches(jsonPattern("a\\nb"), "a\\nb"));
    assert(matches(jsonPattern("a\\x09b"), "a\\tb"));
  });

  it("reads classes as they are written", () => {
    const safe = jsonPattern("[a-c\\d\\-\\]-]");
    for (const char of ["a", "b", "c", "7", "-", "]"]) assert(matches(safe, char), char);
    assertEquals(matches(safe, "d"), false);
    assertEquals(matches(jsonPattern("[^\\s\\d]"), " "), false);
  });

  it("says what it cannot make safe", () => {
    assertThrows(() => jsonPattern('["\\n]'), Error, "only what JSON has to escape");
    assertThrows(() => jsonPattern("[\\S]"), Error, "\\S inside []");
    assertThrows(() => jsonPattern("[à-ü]"), Error, "beyond ASCII");
    assertThrows(() => jsonPattern("[a"), Error, "ends in the middle");
    assertThrows(() => jsonPattern("[b-a]"), Error, "no end");
  });
});

describe("lengthPattern", () => {
  it("counts characters that need no escape", () => {
    assert(matches(lengthPattern(2, 3), "aé"));
    assertEquals(matches(lengthPattern(2, 3), "a"), false);
    assertEquals(matches(lengthPattern(0, undefined), 'a"'), false);
  });
});
