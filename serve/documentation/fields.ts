/** The fields of a request as rows of a table. */
import { z } from "zod";
import type { RequestSpec } from "../schemas/check.ts";

export type FieldStatus = "required" | "honoured" | "no effect" | "refused";

export interface FieldRow {
  readonly name: string;
  readonly status: FieldStatus;
  readonly type: string;
  readonly about: string;
}

/** A JSON schema, as far as it is read here. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
}

/** What a body may be, as a client writes it: before defaults and transformations. */
export function bodySchema({ schema }: RequestSpec): JsonSchema {
  return z.toJSONSchema(schema, { io: "input", reused: "inline" }) as JsonSchema;
}

export function fieldRows(spec: RequestSpec): FieldRow[] {
  const { properties = {}, required = [] } = bodySchema(spec);
  const accepted = Object.entries(properties).map(([name, schema]): FieldRow => {
    const status = required.includes(name) ? "required" : spec.harmless.has(name) ? "no effect" : "honoured";
    const initial = schema.default;
    const isTelling = initial !== undefined && !["[]", "{}"].includes(JSON.stringify(initial));
    const about = [schema.description ?? "", isTelling ? `Default: ${JSON.stringify(initial)}.` : ""];
    return { name, status, type: typeText(schema), about: about.filter(Boolean).join(" ") };
  });
  const refused = Object.entries(spec.refused).map(
    ([name, reason]): FieldRow => ({ name, status: "refused", type: "", about: `Not supported: ${reason}.` }),
  );
  return [...accepted, ...refused];
}

/** Short: the shapes of objects are in the OpenAPI document. */
function typeText(schema: JsonSchema): string {
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) return [...new Set(alternatives.map(typeText))].join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.type === "array") return schema.items ? `list of ${typeText(schema.items)}` : "list";
  if (schema.type === "integer" || schema.type === "number") return schema.type + rangeText(schema);
  return schema.type ?? "anything";
}

function rangeText({ minimum, maximum, exclusiveMinimum }: JsonSchema): string {
  const low = exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : bound(minimum, "at least");
  const high = bound(maximum, "at most");
  if (minimum !== undefined && low && high) return ` from ${minimum} to ${maximum}`;
  const text = [low, high].filter(Boolean).join(", ");
  return text && ` ${text}`;
}

/** Empty for what only keeps integers safe. */
function bound(value: number | undefined, words: string): string {
  return value === undefined || Math.abs(value) === Number.MAX_SAFE_INTEGER ? "" : `${words} ${value}`;
}
