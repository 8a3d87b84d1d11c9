/** The OpenAPI 3.1 document, made from the schemas that requests are checked with. */
import { type Operation, operations } from "../operations.ts";
import type { RequestSpec } from "../schemas/check.ts";
import { bodySchema } from "./fields.ts";

const ERROR_SCHEMA = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { enum: ["invalid_request_error", "rate_limit_error", "server_error"] },
        param: { type: ["string", "null"] },
        code: { type: ["string", "null"] },
      },
    },
  },
};

export function openApiDocument(version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  const schemas: Record<string, object> = { Error: ERROR_SCHEMA };
  for (const [id, operation] of operations()) {
    if (operation.request) schemas[schemaName(id)] = requestSchema(operation.request);
    paths[operation.path] = { ...paths[operation.path], [operation.method.toLowerCase()]: describe(id, operation) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "apiq", version, description: "OpenAI's API on a local model." },
    paths,
    components: { schemas },
  };
}

function describe(id: string, operation: Operation): object {
  const { summary, answer, contentType = "application/json", path, request, generates, errors: own = [] } = operation;
  const errors = [
    ...(request ? [400, 413] : []),
    ...(path.includes("{id}") || request ? [404] : []),
    ...(generates ? [429, 503, 504] : []),
    ...own,
  ];
  const streamed = generates && { "text/event-stream": { schema: { type: "string" } } };
  return {
    operationId: id,
    summary,
    ...(path.includes("{id}") && {
      parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
    }),
    ...(request && {
      requestBody: { required: true, content: { "application/json": { schema: reference(schemaName(id)) } } },
    }),
    responses: {
      200: { description: answer, content: { [contentType]: { schema: {} }, ...streamed } },
      ...Object.fromEntries(errors.map((status) => [status, errorResponse()])),
    },
  };
}

function errorResponse(): object {
  return { description: "OpenAI's error object.", content: { "application/json": { schema: reference("Error") } } };
}

function reference(name: string): object {
  return { $ref: `#/components/schemas/${name}` };
}

function schemaName(operationId: string): string {
  return `${operationId.charAt(0).toUpperCase()}${operationId.slice(1)}Request`;
}

/** `x-refused`: fields that OpenAI defines and this server refuses, with the reasons. */
function requestSchema(spec: RequestSpec): object {
  const { $schema: _, id: _id, ...schema } = bodySchema(spec);
  const refused = Object.keys(spec.refused).length > 0 && { "x-refused": spec.refused };
  return { ...schema, ...refused };
}
