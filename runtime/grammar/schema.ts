/**
 * Prepares JSON schemas for XGrammar. Refuses, before anything is compiled, what is malformed, too large or would not be
 * enforced, and mends what XGrammar would turn into invalid JSON.
 */
import { isObject } from "../formats/json.ts";
import { jsonPattern, lengthPattern } from "./json_pattern.ts";
import { GrammarError, LIMITS } from "./spec.ts";

/** Keywords that describe and do not constrain. */
const ANNOTATIONS = new Set(
  "title description default example examples deprecated readOnly writeOnly $schema $id $comment $defs definitions".split(
    " ",
  ),
);
const ENFORCED = new Set(
  (
    "type enum const anyOf allOf $ref properties required additionalProperties items prefixItems minItems maxItems " +
    "pattern format minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum"
  ).split(" "),
);
const TYPES = new Set(["string", "number", "integer", "boolean", "null", "array", "object"]);
/** XGrammar knows more, but what it makes of them is not always a valid JSON string. */
const FORMATS = new Set("email date time date-time duration ipv4 ipv6 hostname uuid uri uri-reference".split(" "));
/** Each of these decides alone what a value looks like; XGrammar then does not look at the keywords beside it. */
const EXCLUSIVE = ["$ref", "const", "enum", "anyOf", "allOf"];
/** Beside an exclusive keyword these may stand: every member of an enum, for instance, is checked against `type` by its author. */
const HARMLESS_BESIDE = new Set(["type"]);
/** Only the first of these that a string has is enforced. */
const STRING_FORMS = ["format", "pattern", "minLength", "maxLength"];

/**
 * Returns the schema as XGrammar is to have it. For its users: a pattern has to match the whole string, as if between ^ and $.
 *
 * @throws {GrammarError} saying where in the schema, as a JSON pointer, what was found and what is allowed.
 */
export function prepareSchema(text: string, strict: boolean): unknown {
  if (text.length > LIMITS.characters) {
    throw new GrammarError(
      `Cannot use JSON schema: received ${text.length} characters, expected at most ${LIMITS.characters}`,
    );
  }
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    throw new GrammarError(`Cannot parse JSON schema: ${error instanceof Error ? error.message : String(error)}`);
  }
  new SchemaCheck(schema, strict).run();
  return schema;
}

class SchemaCheck {
  readonly #root: unknown;
  readonly #strict: boolean;
  readonly #visited = new Set<unknown>();
  readonly #references: { target: unknown; at: string }[] = [];
  #properties = 0;
  #enumValues = 0;

  constructor(root: unknown, strict: boolean) {
    this.#root = root;
    this.#strict = strict;
  }

  run(): void {
    checkDepth(this.#root);
    this.#visit(this.#root, "#");
    const stray = this.#references.find(({ target }) => !this.#visited.has(target));
    if (stray) fail(stray.at, "$ref names a place that is no schema");
  }

  #visit(schema: unknown, at: string): void {
    this.#visited.add(schema);
    if (schema === true) return;
    if (schema === false) fail(at, "false allows no value");
    if (!isObject(schema)) fail(at, `received ${describe(schema)}, expected an object or true`);
    if (schema.type !== undefined) checkType(schema.type, at);
    if (schema.$ref !== undefined) this.#checkReference(schema.$ref, at);
    if (this.#strict) checkEnforced(schema, at);
    else dropUnenforced(schema);
    mendStrings(schema, at, this.#strict);
    mendNumbers(schema, at, this.#strict);
    this.#count(schema);
    for (const key of ["$defs", "definitions", "properties"]) {
      if (schema[key] === undefined) continue;
      if (!isObject(schema[key])) fail(at, `${key} is ${describe(schema[key])}, expected an object`);
      for (const [name, inner] of Object.entries(schema[key])) {
        if (key === "properties" && JSON.stringify(name) !== `"${name}"`) {
          fail(at, `property ${describe(name)} has a character that JSON escapes, which is not supported`);
        }
        this.#visit(inner, `${at}/${key}/${asPointerPart(name)}`);
      }
    }
    for (const key of ["anyOf", "allOf", "prefixItems"]) {
      if (schema[key] === undefined) continue;
      if (!Array.isArray(schema[key]) || schema[key].length === 0) fail(at, `${key} must be an array with members`);
      for (const [i, inner] of schema[key].entries()) this.#visit(inner, `${at}/${key}/${i}`);
    }
    for (const key of ["items", "additionalProperties"]) {
      // `false` is fine here: no further members.
      if (schema[key] !== undefined && schema[key] !== false) this.#visit(schema[key], `${at}/${key}`);
    }
  }

  #count(schema: Record<string, unknown>): void {
    this.#properties += isObject(schema.properties) ? Object.keys(schema.properties).length : 0;
    this.#enumValues += Array.isArray(schema.enum) ? schema.enum.length : 0;
    const tooMany = (what: string, count: number, most: number): void => {
      if (count > most) throw new GrammarError(`Cannot use JSON schema: it has more than ${most} ${what}`);
    };
    tooMany("properties", this.#properties, LIMITS.properties);
    tooMany("enum values", this.#enumValues, LIMITS.enumValues);
  }

  #checkReference(reference: unknown, at: string): void {
    if (typeof reference !== "string" || !/^#(\/|$)/.test(reference)) {
      fail(at, `$ref is ${describe(reference)}, expected a place in the same schema such as "#/$defs/name"`);
    }
    let target: unknown = this.#root;
    for (const part of reference.split("/").slice(1)) {
      const key = decodeURIComponentOr(part).replaceAll("~1", "/").replaceAll("~0", "~");
      const inside = typeof target === "object" && target !== null && Object.hasOwn(target, key);
      if (!inside) fail(at, `$ref ${describe(reference)} names nothing in the schema`);
      target = (target as Record<string, unknown>)[key];
    }
    this.#references.push({ target, at });
  }
}

/** With `strict` every keyword holds, so one that would not is refused by name. */
function checkEnforced(schema: Record<string, unknown>, at: string): void {
  const keywords = Object.keys(schema).filter((key) => !ANNOTATIONS.has(key));
  const unknown = keywords.find((key) => !ENFORCED.has(key));
  if (unknown === "oneOf") fail(at, "oneOf is not enforced with strict; anyOf is");
  if (unknown !== undefined) fail(at, `${unknown} is not enforced with strict; without it, it is ignored`);
  if (Array.isArray(schema.allOf) && schema.allOf.length > 1) {
    fail(at, "allOf with several members is not enforced with strict");
  }
  if (schema.format !== undefined && !FORMATS.has(String(schema.format))) {
    fail(
      at,
      `format ${describe(schema.format)} is not enforced with strict, expected one of ${[...FORMATS].join(", ")}`,
    );
  }
  const exclusive = keywords.find((key) => EXCLUSIVE.includes(key));
  const beside = keywords.find((key) => key !== exclusive && !HARMLESS_BESIDE.has(key));
  if (exclusive !== undefined && beside !== undefined) {
    fail(at, `${beside} beside ${exclusive} is not enforced with strict`);
  }
  const untyped = schema.type === undefined && exclusive === undefined ? keywords[0] : undefined;
  if (untyped !== undefined) fail(at, `${untyped} without a type beside it is not enforced with strict`);
  const forms = keywords.filter((key) => STRING_FORMS.includes(key));
  const areLengths = forms.every((key) => key === "minLength" || key === "maxLength");
  if (forms.length > 1 && !areLengths) fail(at, `${forms[1]} beside ${forms[0]} is not enforced with strict`);
}

/** Leaves at most one of format and pattern, and a pattern that yields valid JSON: lengths become one, too. */
function mendStrings(schema: Record<string, unknown>, at: string, strict: boolean): void {
  const { format, pattern, minLength = 0, maxLength } = schema;
  if (format !== undefined && !FORMATS.has(String(format))) delete schema.format;
  if (pattern !== undefined) {
    if (typeof pattern !== "string") fail(at, `pattern is ${describe(pattern)}, expected a string`);
    try {
      schema.pattern = jsonPattern(pattern);
    } catch (error) {
      if (strict)
        fail(at, `pattern ${describe(pattern)} cannot be used: ${error instanceof Error ? error.message : error}`);
      delete schema.pattern;
    }
  } else if (schema.minLength !== undefined || maxLength !== undefined) {
    if (!isCount(minLength) || (maxLength !== undefined && (!isCount(maxLength) || maxLength < minLength))) {
      fail(
        at,
        `minLength is ${describe(minLength)} and maxLength ${describe(maxLength)}, expected 0 <= minLength <= maxLength`,
      );
    }
    if (schema.format === undefined) schema.pattern = lengthPattern(minLength, maxLength);
  }
  delete schema.minLength;
  delete schema.maxLength;
}

/**
 * Gives integers both bounds, as inclusive ones: XGrammar gets a single one wrong. What it makes of the bounds of other numbers
 * is not even always a number, so these are refused, or without `strict` left out.
 */
function mendNumbers(schema: Record<string, unknown>, at: string, strict: boolean): void {
  const given = BOUNDS.filter((key) => schema[key] !== undefined);
  if (given.length === 0) return;
  const wrong = given.find((key) => typeof schema[key] !== "number");
  if (wrong !== undefined) fail(at, `${wrong} is ${describe(schema[wrong])}, expected a number`);
  const [minimum, exclusiveMinimum, maximum, exclusiveMaximum] = BOUNDS.map((key) => schema[key] as number | undefined);
  for (const key of BOUNDS) delete schema[key];
  if ([schema.type].flat().includes("number")) {
    if (strict) fail(at, `${given[0]} is not enforced with strict for a number, only for an integer`);
    return;
  }
  const least = Math.max(-LARGEST, Math.ceil(minimum ?? -LARGEST), Math.floor(exclusiveMinimum ?? -Infinity) + 1);
  const most = Math.min(LARGEST, Math.floor(maximum ?? LARGEST), Math.ceil(exclusiveMaximum ?? Infinity) - 1);
  if (least > most) fail(at, `no integer is from ${least} to ${most}`);
  schema.minimum = least;
  schema.maximum = most;
}

const BOUNDS = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"] as const;
/** All of 15 digits: every such integer is exact in JSON readers that use doubles. */
const LARGEST = 10 ** 15 - 1;

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** Without `strict`, what would not be enforced is left out: XGrammar might take a part of it wrongly. */
function dropUnenforced(schema: Record<string, unknown>): void {
  if (schema.anyOf === undefined && schema.oneOf !== undefined) schema.anyOf = schema.oneOf;
  for (const key of Object.keys(schema)) {
    if (!ENFORCED.has(key) && !ANNOTATIONS.has(key)) delete schema[key];
  }
}

function checkType(type: unknown, at: string): void {
  const types = Array.isArray(type) ? type : [type];
  const wrong = types.find((name) => !TYPES.has(name));
  if (types.length === 0 || wrong !== undefined) {
    fail(at, `type is ${describe(type)}, expected ${[...TYPES].join(", ")} or an array of them`);
  }
}

/** Without recursion, because the depth is what is in question. */
function checkDepth(root: unknown): void {
  let level: unknown[] = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > LIMITS.depth) {
      throw new GrammarError(`Cannot use JSON schema: it is nested more than ${LIMITS.depth} levels deep`);
    }
    level = level.flatMap((value) => (typeof value === "object" && value !== null ? Object.values(value) : []));
  }
}

function fail(at: string, reason: string): never {
  throw new GrammarError(`Cannot use JSON schema: at ${at}, ${reason}`);
}

function describe(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

function asPointerPart(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

function decodeURIComponentOr(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
