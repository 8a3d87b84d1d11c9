/**
 * What pages in a browser may do with this server. A browser sends requests of any page to any address, this machine's own
 * included; what keeps strangers' pages out is here, not in the network.
 */
import type { MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { ApiError } from "../errors.ts";

/** What scripts of allowed origins may read beside the body. */
const EXPOSED = [
  "x-request-id",
  "retry-after",
  "x-ratelimit-limit-requests",
  "x-ratelimit-remaining-requests",
  "x-ratelimit-reset-requests",
  "x-ratelimit-limit-tokens",
  "x-ratelimit-remaining-tokens",
  "x-ratelimit-reset-tokens",
];

const ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:]+\])$/i;

export interface BrowserAccess {
  /** Origins of pages that may use the API, beside the server's own. */
  readonly origins: readonly string[];
  /** The name or address that the server listens on. */
  readonly hostname: string;
  /** Whether a key is needed, which no stranger's page has. */
  readonly hasKeys: boolean;
}

/** Refuses what comes from other pages; adds the CORS headers for those of `origins`. */
export function browserAccess({ origins, hostname, hasKeys }: BrowserAccess): readonly MiddlewareHandler[] {
  const guard: MiddlewareHandler = async (c, next) => {
    const host = c.req.header("host") ?? "";
    // A stranger's name can be made to point at this machine (DNS rebinding); its page would then pass for our own.
    if (!hasKeys && !isOwnName(host, hostname)) {
      const expected = "expected localhost, an address or the name given as --host";
      throw new ApiError(
        403,
        "host_not_allowed",
        `Cannot answer a request for host ${JSON.stringify(host)}: ${expected}`,
      );
    }
    const origin = c.req.header("origin");
    if (origin !== undefined && !origins.includes(origin) && !isSame(origin, host)) {
      const message = `Cannot answer a page of ${JSON.stringify(origin)}; allow it with --cors-origin`;
      throw new ApiError(403, "origin_not_allowed", message);
    }
    await next();
  };
  return origins.length === 0 ? [guard] : [guard, cors({ origin: [...origins], exposeHeaders: EXPOSED, maxAge: 600 })];
}

function isOwnName(host: string, hostname: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  return name === "localhost" || ADDRESS.test(name) || name === hostname.toLowerCase();
}

function isSame(origin: string, host: string): boolean {
  return origin === `http://${host}` || origin === `https://${host}`;
}
