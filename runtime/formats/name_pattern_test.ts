import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parsePatterns } from "./name_pattern.ts";
import { assertFormatError } from "./test_files.ts";

const NAME = "model.layers.1.mlp.down_proj";
const value = (patterns: object, name = NAME): number | undefined =>
  parsePatterns(patterns, "rank_pattern", "f").find(({ regex }) => regex.test(name))?.value;

describe("parsePatterns", () => {
  it("matches a whole name or its end after a dot, as peft does", () => {
    assertEquals(value({ down_proj: 1 }), 1);
    assertEquals(value({ "mlp.down_proj": 1 }), 1);
    assertEquals(value({ [NAME]: 1 }), 1);
    assertEquals(value({ "^model.layers.1.mlp.down_proj": 1 }), 1);
    assertEquals(value({ own_proj: 1 }), undefined);
    assertEquals(value({ mlp: 1 }), undefined);
  });

  it("reads keys as regular expressions, the first match counting", () => {
    assertEquals(value({ "layers\\.[02]\\..*": 1, "(up|down)_proj": 2, down_proj: 3 }), 2);
    assertEquals(value({ "layers\\.\\d+\\.mlp\\..*": 4 }), 4);
    const layers = Array.from({ length: 80 }, (_, layer) => layer).join("|");
    assertEquals(value({ [`model\\.layers\\.(${layers})\\..*\\.(up|down)_proj`]: 5 }), 5);
    assertEquals(value({ "model\\.layers\\.(?:0|1)\\.[^.|(]+\\.down_proj": 6 }), 6);
  });

  it("has no patterns where there is no setting", () => {
    assertEquals(parsePatterns(undefined, "k", "f"), []);
    assertEquals(parsePatterns(null, "k", "f"), []);
  });

  it("refuses what is no pattern, no number or could take for ever", () => {
    assertFormatError(() => value([]), "bad rank_pattern, received array, expected object");
    assertFormatError(() => value({ a: 0 }), "bad value in rank_pattern, received 0");
    assertFormatError(() => value({ "(": 1 }), "bad pattern in rank_pattern");
    assertFormatError(() => value({ "a)|(.*": 1 }), "bad pattern in rank_pattern");
    for (const costly of [
      ...["(a+)+$", "(a|a)*b", ".*.*.*.*x", "a".repeat(600)],
      ...[`${"(.|.)".repeat(25)}!`, `${".?".repeat(25)}!`, `${"(?:.|.)".repeat(25)}!`],
    ]) {
      assertFormatError(() => value({ [costly]: 1 }), "too complicated a pattern");
    }
  });
});
