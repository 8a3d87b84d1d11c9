/** Around every request: its id, its line in the log, and that it counts as running until its last byte. */
import type { Context, MiddlewareHandler } from "hono";
import { RequestRecord } from "./request_record.ts";
import type { ServerState, Service } from "./service.ts";

const SANE_ID = /^[\w.:+/=@-]{1,128}$/;
const RECORD = "requestRecord";

/** The x-request-id header: a client's own, or one made here, comes back with every answer. */
export function observe(state: ServerState): MiddlewareHandler {
  return async (c, next) => {
    const given = c.req.header("x-request-id");
    const id = given !== undefined && SANE_ID.test(given) ? given : `req_${crypto.randomUUID()}`;
    const record = new RequestRecord(id, c.req.method, c.req.path);
    c.set(RECORD, record);
    state.running.add(record);
    record.whenEnded(() => {
      logRequest(state, record);
      if (!isProbe(record)) state.tracing?.trace(record, c.req.raw.headers);
    });
    await next();
    c.res.headers.set("x-request-id", id);
    record.facts.status = c.res.status;
    if (!record.streaming) record.end();
  };
}

/** The record that `observe` made. */
export function recordOf(c: Context): RequestRecord {
  return c.get(RECORD) as RequestRecord;
}

/** What a handler works with for the request at hand. */
export function serviceFor(state: ServerState, c: Context): Service {
  return { ...state, request: recordOf(c) };
}

function logRequest({ log }: ServerState, record: RequestRecord): void {
  const { id, method, path, seconds, facts } = record;
  const fields = { requestId: id, method, path, seconds: Number(seconds.toFixed(4)), ...facts };
  if (isProbe(record)) log.debug(fields, "request");
  else if ((facts.status ?? 0) >= 500) log.error(fields, "request");
  else log.info(fields, "request");
}

/** Probes come every few seconds and say nothing when all is well. */
function isProbe({ facts: { operation } }: RequestRecord): boolean {
  return operation === "getHealth" || operation === "getReady" || operation === "getMetrics";
}
