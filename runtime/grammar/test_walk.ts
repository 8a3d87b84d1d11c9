/** For tests: random outputs under a mask, and a checker for the JSON schema keywords that the tests use. */
import { isObject } from "../formats/json.ts";
import type { MatcherHost } from "./matcher_host.ts";
import type { GrammarVocabulary } from "./vocabulary.ts";

/** A small generator with a seed (mulberry32), so that a failing walk can be repeated. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function allowedTokens(mask: Int32Array): number[] {
  const tokens: number[] = [];
  for (let word = 0; word < mask.length; word++) {
    for (let bit = 0; bit < 32; bit++) if ((mask[word] >>> bit) & 1) tokens.push(word * 32 + bit);
  }
  return tokens;
}

/**
 * Only with these bytes do surrogates, overlong forms and code points past the last begin. XGrammar lets them pass; tokenizers have no use for them,
 * and in a decoded text they would be characters more than there were.
 */
function beginsInvalidUtf8(token: string | undefined): boolean {
  return token !== undefined && /^[\u00c0\u00c1\u00e0\u00ed\u00f0\u00f4-\u00ff]$/.test(token);
}

const CLOSING = /^["}\]]+$/;

/**
 * Draws uniformly from the allowed tokens until a stop token comes. Returns the tokens before it.
 *
 * @param patience after this many tokens, what closes a string or bracket (or ends the output) is taken whenever it is allowed
 */
export async function walk(
  host: MatcherHost,
  id: string,
  vocabulary: GrammarVocabulary,
  random: () => number,
  patience: number,
): Promise<number[]> {
  const output: number[] = [];
  let accepted: number[] = [];
  for (;;) {
    const mask = await host.mask(id, accepted);
    const allowed = allowedTokens(mask).filter((token) => !beginsInvalidUtf8(vocabulary.tokens[token]));
    const stop = allowed.find((token) => vocabulary.stopTokens.includes(token));
    const closing =
      output.length < patience ? [] : allowed.filter((token) => CLOSING.test(vocabulary.tokens[token] ?? ""));
    const choices = closing.length > 0 ? closing : allowed;
    const token =
      stop !== undefined && output.length >= patience ? stop : choices[Math.floor(random() * choices.length)];
    if (vocabulary.stopTokens.includes(token)) return output;
    output.push(token);
    accepted = [token];
    if (output.length > 20 * patience) throw new Error(`The walk does not end: ${output.length} tokens`);
  }
}

/** Whether `value` is valid under `schema`, for type, enum, properties, required, items, bounds, lengths, anyOf and $defs. */
export function isValid(value: unknown, schema: unknown, root: unknown = schema): boolean {
  if (!isObject(schema)) return schema !== false;
  if (typeof schema.$ref === "string") {
    const target = schema.$ref
      .split("/")
      .slice(1)
      .reduce<unknown>((at, part) => (at as never)[part], root);
    return isValid(value, target, root);
  }
  if (Array.isArray(schema.anyOf)) return schema.anyOf.some((one) => isValid(value, one, root));
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) return false;
  const types = schema.type === undefined ? [] : [schema.type].flat();
  if (types.length > 0 && !types.some((type) => hasType(value, type))) return false;
  if (typeof value === "number") return between(value, schema.minimum, schema.maximum);
  if (typeof value === "string") return between([...value].length, schema.minLength, schema.maxLength);
  if (Array.isArray(value)) {
    const { items } = schema;
    return between(value.length, schema.minItems, schema.maxItems) && value.every((one) => isValid(one, items, root));
  }
  return !isObject(value) || isValidObject(value, schema, root);
}

function isValidObject(value: Record<string, unknown>, schema: Record<string, unknown>, root: unknown): boolean {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const required = Array.isArray(schema.required) ? schema.required : [];
  return (
    required.every((name) => Object.hasOwn(value, name)) &&
    Object.entries(value).every(([name, one]) => {
      if (Object.hasOwn(properties, name)) return isValid(one, properties[name], root);
      return schema.additionalProperties !== false && isValid(one, schema.additionalProperties, root);
    })
  );
}

function between(value: number, least: unknown, most: unknown): boolean {
  return value >= Number(least ?? Number.NEGATIVE_INFINITY) && value <= Number(most ?? Number.POSITIVE_INFINITY);
}

function hasType(value: unknown, type: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "object") return isObject(value);
  return typeof value === type;
}
