/** GET /docs: the API for people, as one page without scripts that loads nothing. */
import { html, raw } from "hono/html";
import { type Operation, operations } from "../operations.ts";
import type { RequestSpec } from "../schemas/check.ts";
import { fieldRows } from "./fields.ts";

type Html = ReturnType<typeof html>;

const STYLE = `
  :root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 2rem 1rem; }
  code, h2 { font-family: ui-monospace, monospace; }
  h2 { font-size: 1.1rem; margin: 2.5rem 0 0.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
  h2 b { display: inline-block; min-width: 3.5rem; color: #2563eb; }
  nav ul { columns: 2; padding-left: 1.2rem; }
  table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
  td, th { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); }
  .refused { opacity: 0.6; }
`;

export function apiPage(version: string): Html {
  const all = operations();
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>apiq ${version}: API</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>apiq ${version}</h1>
<p>OpenAI's API on a local model. For programs: <a href="/openapi.json">openapi.json</a>.</p>
<nav><ul>${all.map(([id, { method, path }]) => html`<li><a href="#${id}"><code>${method} ${path}</code></a></li>`)}</ul></nav>
${all.map(([id, operation]) => section(id, operation))}
</body>
</html>
`;
}

function section(id: string, { method, path, summary, answer, request }: Operation): Html {
  return html`<section id="${id}">
<h2><b>${method}</b> ${path}</h2>
<p>${summary}</p>
${request ? fieldTable(request) : ""}
<p>Answers with: ${answer}</p>
</section>
`;
}

function fieldTable(request: RequestSpec): Html {
  const rows = fieldRows(request).map(
    ({ name, status, type, about }) =>
      html`<tr class="${status}"><td><code>${name}</code></td><td>${status}</td><td>${type}</td><td>${about}</td></tr>
`,
  );
  return html`<table><thead><tr><th>field</th><th></th><th>type</th><th></th></tr></thead><tbody>
${rows}</tbody></table>`;
}
