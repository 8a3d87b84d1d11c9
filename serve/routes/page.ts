/** GET / and GET /page/{id}: the page for people, from the files that scripts/build_page.mjs made. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { Context } from "hono";
import { ApiError } from "../errors.ts";

const FOLDER = fileURLToPath(new URL("../../build/page/", import.meta.url));

/** What the build makes beside index.html: a name, a hash of the contents, an ending. Nothing else is ever read. */
const ASSET = /^[a-z]+-[0-9a-f]{16}\.(js|css|svg)$/;

const TYPES: Readonly<Record<string, string>> = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};

/**
 * The page runs its own script and talks to its own server; all else is off, whatever a model writes. Trusted Types without a
 * policy make the browser refuse every way from text to HTML or script.
 */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const HEADERS = { "content-security-policy": POLICY, "cross-origin-opener-policy": "same-origin" };

/** The page itself is asked for again each time, and is small; what it names never changes. */
export async function getPage(c: Context): Promise<Response> {
  const page = await readPageFile("index.html");
  if (!page) throw new ApiError(404, "no_page", "The page is not built; build it with: npm run build");
  const etag = `"${createHash("sha256").update(page).digest("hex").slice(0, 32)}"`;
  const headers = { ...HEADERS, "cache-control": "no-cache", etag };
  if (c.req.header("if-none-match") === etag) return c.body(null, 304, headers);
  return c.body(page, 200, { ...headers, "content-type": "text/html; charset=utf-8" });
}

export async function getPageFile(c: Context): Promise<Response> {
  const name = c.req.param("id") ?? "";
  const [, ending = ""] = ASSET.exec(name) ?? [];
  const file = ending === "" ? undefined : await readPageFile(name);
  if (!file) throw new ApiError(404, "unknown_route", `The page has no file ${JSON.stringify(name)}; reload it`);
  const headers = { ...HEADERS, "cache-control": "public, max-age=31536000, immutable", etag: `"${name}"` };
  if (c.req.header("if-none-match") === headers.etag) return c.body(null, 304, headers);
  return c.body(file, 200, { ...headers, "content-type": TYPES[ending] ?? "" });
}

/** Undefined where there is no such file. */
async function readPageFile(name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return new Uint8Array(await readFile(FOLDER + name));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
