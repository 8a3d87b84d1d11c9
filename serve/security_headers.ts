/** Headers of every answer that keep browsers from making more of it than it is. */
import type { MiddlewareHandler } from "hono";

/** For answers that are data. A page sends a policy of its own, which then stands. */
const DATA_POLICY = "default-src 'none'; frame-ancestors 'none'";

export const securityHeaders: MiddlewareHandler = async (c, next) => {
  await next();
  const { headers } = c.res;
  if (!headers.has("content-security-policy")) headers.set("content-security-policy", DATA_POLICY);
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
};
