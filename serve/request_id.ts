/** The x-request-id header: a client's own, or one made here, comes back with every answer. */
import type { MiddlewareHandler } from "hono";

const SANE = /^[\w.:+/=@-]{1,128}$/;

export const requestId: MiddlewareHandler = async (c, next) => {
  const given = c.req.header("x-request-id");
  const id = given !== undefined && SANE.test(given) ? given : `req_${crypto.randomUUID()}`;
  await next();
  c.res.headers.set("x-request-id", id);
};
