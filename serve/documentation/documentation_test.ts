import { readFileSync } from "node:fs";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { OPERATIONS, operations } from "../operations.ts";
import type { RequestSpec } from "../schemas/check.ts";
import { apiMarkdown } from "./markdown.ts";
import { openApiDocument } from "./openapi.ts";
import { apiPage } from "./page.ts";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

/** The fields of an interface in the openai package's declarations. */
function fieldsOf(declarations: string, name: string): string[] {
  const begin = declarations.indexOf(`export interface ${name} {`);
  const body = declarations.slice(begin, declarations.indexOf("\n}", begin));
  return [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, field]) => field ?? "");
}

describe("documentation", () => {
  it("in docs/API.md is what the schemas make (bun serve/documentation/write_markdown.ts)", () => {
    assertEquals(read("docs/API.md"), apiMarkdown());
  });

  it("knows every field that the openai package declares, honoured or refused", () => {
    const cases: readonly (readonly [file: string, name: string, request: RequestSpec])[] = [
      ["chat/completions/completions", "ChatCompletionCreateParamsBase", OPERATIONS.createChatCompletion.request],
      ["completions", "CompletionCreateParamsBase", OPERATIONS.createCompletion.request],
      ["responses/responses", "ResponseCreateParamsBase", OPERATIONS.createResponse.request],
    ];
    for (const [file, name, request] of cases) {
      const declared = fieldsOf(read(`node_modules/openai/resources/${file}.d.ts`), name);
      assert(declared.includes("model") && declared.length > 10, `${name} was not found`);
      const known = [...Object.keys(request.schema.shape), ...Object.keys(request.refused)];
      assertEquals(
        declared.filter((field) => !known.includes(field)),
        [],
      );
    }
  });

  it("for programs has every operation, with schemas that exist", () => {
    const document = openApiDocument("1.2.3");
    const { paths, components, info } = document as {
      paths: Record<string, Record<string, { operationId: string }>>;
      components: { schemas: Record<string, { type: string; required?: string[] }> };
      info: { version: string };
    };
    assertEquals(info.version, "1.2.3");
    const found = Object.values(paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    assertEquals(
      found.sort(),
      operations()
        .map(([id]) => id as string)
        .sort(),
    );
    for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      assertEquals(components.schemas[name ?? ""]?.type, "object");
    }
    assertEquals(components.schemas.CreateChatCompletionRequest?.required, ["model", "messages"]);
  });

  it("for people is one page that loads nothing", async () => {
    const page = `${await apiPage("1.2.3")}`;
    for (const [, { path }] of operations()) assertStringIncludes(page, path);
    assertStringIncludes(page, "parallel_tool_calls");
    assertEquals(page.match(/<(script|link|img|iframe)|\bsrc=|url\(|https?:/g), null);
  });
});
