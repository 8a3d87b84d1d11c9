/** From a parsed JSON body to a checked request, or to an error that names the field at fault. */
import type { z } from "zod";
import { nearest } from "../../runtime/cli/suggest.ts";
import { type ApiError, invalidRequest, unsupported } from "../errors.ts";

/** What a route accepts. A field is honoured, harmless, or refused by name; nothing is ignored silently. */
export interface RequestSpec<Schema extends z.ZodObject = z.ZodObject> {
  /** The honoured and the harmless fields; strict, so that others are noticed. */
  readonly schema: Schema;
  /** Fields that cannot change an answer of this server: any value of the right shape, or only what asks for nothing. */
  readonly harmless: ReadonlySet<string>;
  /** Fields that OpenAI defines and this server does not honour, whatever their value, each with the reason. */
  readonly refused: Readonly<Record<string, string>>;
  /** The list whose items are objects that take null for "absent" as well, and what is refused within those. */
  readonly items?: { readonly field: string; readonly refused: ReadonlySet<string> };
}

/** Checks a parsed body. Throws an ApiError (400) that names the first field that cannot be honoured. A null means absent. */
export function parseRequest<Schema extends z.ZodObject>(spec: RequestSpec<Schema>, body: unknown): z.output<Schema> {
  const result = spec.schema.safeParse(withoutNulls(body, spec.items?.field));
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw issue ? describeIssue(issue, body, spec) : invalidRequest("Cannot read request");
}

/** OpenAI's clients send null for "not given", at the top and in messages (an earlier answer has `refusal: null`). */
function withoutNulls(body: unknown, list: string | undefined): unknown {
  if (!isRecord(body)) return body;
  const kept = dropNulls(body);
  const items = list === undefined ? undefined : kept[list];
  if (list !== undefined && Array.isArray(items)) {
    kept[list] = items.map((item) => (isRecord(item) ? dropNulls(item) : item));
  }
  return kept;
}

function dropNulls(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describeIssue(issue: z.core.$ZodIssue, body: unknown, spec: RequestSpec): ApiError {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") return unknownField(path, issue.keys[0] ?? "", spec);
  if (path[0] !== undefined && spec.harmless.has(path[0])) {
    return unsupported(path[0], `${path[0]} ${preview(lookUp(body, [path[0]]))}`);
  }
  if (issue.code === "invalid_union") {
    // The branch that got furthest, and past its type, says what is wrong; a bare "invalid input" would not.
    const progress = (branch: z.core.$ZodIssue) => 2 * branch.path.length + (branch.code === "invalid_type" ? 0 : 1);
    const furthest = issue.errors.flat().sort((a, b) => progress(b) - progress(a))[0];
    if (furthest) return describeIssue({ ...furthest, path: [...issue.path, ...furthest.path] }, body, spec);
  }
  const param = path.join(".");
  const received = lookUp(body, issue.path);
  if (received === undefined) {
    return invalidRequest(
      param ? `Missing required parameter: ${param}` : "Cannot read request: expected a JSON object",
      param || null,
    );
  }
  // The library names the received type; the value itself, which follows, says more.
  const reason = issue.message.replace(/^Invalid (input|option): /, "").replace(/, received \w+$/, "");
  return invalidRequest(`Cannot use ${param || "request"}: ${reason}, received ${preview(received)}`, param || null);
}

function unknownField(path: readonly string[], key: string, spec: RequestSpec): ApiError {
  const param = [...path, key].join(".");
  const known = path.length === 0 ? Object.hasOwn(spec.refused, key) : spec.items?.refused.has(key);
  if (known) return unsupported(param, param);
  const near = path.length === 0 ? nearest(key, Object.keys(spec.schema.shape)) : undefined;
  const hint = near ? ` (did you mean ${near}?)` : "";
  return invalidRequest(`Unknown parameter: ${param}${hint}`, param, "unknown_parameter");
}

function lookUp(value: unknown, path: readonly PropertyKey[]): unknown {
  let found = value;
  for (const key of path) {
    if (typeof found !== "object" || found === null) return undefined;
    found = (found as Record<PropertyKey, unknown>)[key];
  }
  return found;
}

/** A value as JSON, short enough for an error message. */
function preview(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}
