/** docs/API.md: every route and every field, from the schemas that requests are checked with. */
import { type Operation, operations } from "../operations.ts";
import type { RequestSpec } from "../schemas/check.ts";
import { fieldRows } from "./fields.ts";

const ERRORS = [
  ["status", "code", "when"],
  [
    "400",
    "`unsupported_parameter`, `unknown_parameter`, `context_length_exceeded`, `invalid_json` or null",
    "the request is at fault",
  ],
  [
    "400",
    "`invalid_lora_name`, `adapter_exists`, `mode_required`, `invalid_adapter`",
    "the adapter cannot be loaded so",
  ],
  ["401", "`invalid_api_key`", "the server has keys (`--api-key-file`), and this is none of them"],
  ["403", "`admin_key_required`", "only keys of `--admin-key-file` may do this"],
  ["403", "`host_not_allowed`, `origin_not_allowed`", "a page of another site asks; `--cors-origin` lets one in"],
  [
    "403",
    "`adapter_loading_disabled`, `path_not_allowed`",
    "adapters are loaded only from folders in `--adapter-root`; there is none, or this is outside",
  ],
  [
    "404",
    "`model_not_found`, `unknown_route`, `no_page`",
    "there is no such model or route, or the page was not built",
  ],
  ["404", "`adapter_not_found`, `path_not_found`", "there is no such adapter or folder"],
  ["408", "`body_timeout`", "the body took longer to come than `--body-timeout`"],
  ["409", "`generation_conflict`", "the adapter's generation is not the one that was expected"],
  ["413", "`request_too_large`", "the body is longer than `--max-body`"],
  [
    "429",
    "`rate_limit_exceeded`",
    "more answers wait than `--max-queue` allows, or this key has used what it may; `Retry-After` says when to come back",
  ],
  ["429", "`adapter_loading`", "another adapter is being loaded; `Retry-After` says when to come back"],
  ["500", "`internal_error`", "a fault of the server; its log has more"],
  ["503", "`loading`, `engine_restarting`, `shutting_down`", "for now; `Retry-After` says when to come back"],
  ["503", "`no_model`, `engine_failed`, `adapter_unavailable`", "until someone acts"],
  ["504", "`request_timeout`", "the answer took longer than `--request-timeout`"],
];

const INTRODUCTION = `# API

Made from the schemas that requests are checked with: \`bun serve/documentation/write_markdown.ts\`; a test compares. The same is
served at \`/docs\`, and for programs at \`/openapi.json\`.

Every field that OpenAI defines is **honoured**, has **no effect** here (it is accepted because it asks for nothing that this
server does otherwise; a value that would is refused), or is **refused** with status 400 and its name in \`error.param\`. A field
that nobody defines is refused too. \`null\` means absent.

Errors have OpenAI's shape, \`{"error": {"message", "type", "param", "code"}}\`:

${table(ERRORS)}
A stream that fails midway ends with the error as an event. Silent streams carry a comment line every 15 seconds. Every answer
has an \`x-request-id\`: the request's own, if it has one of at most 128 letters, digits and \`._:+/=@-\`, or a new one. Where keys
have limits, answers carry OpenAI's \`x-ratelimit-\` headers.
`;

export function apiMarkdown(): string {
  return `${INTRODUCTION}\n${operations()
    .map(([, operation]) => section(operation))
    .join("\n")}`;
}

function section({ method, path, summary, answer, request }: Operation): string {
  return `## ${method} ${path}\n\n${summary}\n\nAnswers with: ${answer}\n${request ? `\n${fields(request)}` : ""}`;
}

function fields(request: RequestSpec): string {
  const rows = fieldRows(request).map(({ name, status, type, about }) => [`\`${name}\``, status, type, about]);
  return table([["field", "status", "type", "about"], ...rows]);
}

/** As Biome formats tables: columns aligned. The first row is the heading. */
function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((text) => text.replaceAll("|", "\\|")));
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((text, i) => text.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  const [heading = [], ...body] = cells;
  return [heading, widths.map((width) => "-".repeat(width)), ...body].map(line).join("");
}
