/** GET /openapi.json and GET /docs */
import type { Context } from "hono";
import { openApiDocument } from "../documentation/openapi.ts";
import { apiPage } from "../documentation/page.ts";
import type { Service } from "../service.ts";

export function getOpenApi(c: Context, { version }: Service): Response {
  return c.json(openApiDocument(version));
}

export async function getDocs(c: Context, { version }: Service): Promise<Response> {
  // Were anything on the page ever to ask for it, the browser would still load nothing.
  c.header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'");
  return c.html(await apiPage(version));
}
