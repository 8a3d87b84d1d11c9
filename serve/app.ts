/** The routes, and what is common to all of them. What they do is in the files they call. */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { ANYONE, type Client } from "./api_keys.ts";
import { readBody } from "./body.ts";
import { ApiError, invalidApiKey, notAdmin, requestTimeout, shuttingDown, toApiError } from "./errors.ts";
import { browserAccess } from "./limits/browser_access.ts";
import { observe, recordOf, serviceFor } from "./observe.ts";
import { type Operation, type OperationId, operations } from "./operations.ts";
import { getAdapters, postLoadAdapter, postUnloadAdapter } from "./routes/adapters.ts";
import { postChatCompletions } from "./routes/chat.ts";
import { postCompletions } from "./routes/completions.ts";
import { getDocs, getOpenApi } from "./routes/documentation.ts";
import { getModel, getModels } from "./routes/models.ts";
import { getPage, getPageFile } from "./routes/page.ts";
import { logUnexpected } from "./routes/respond.ts";
import { postResponses } from "./routes/responses.ts";
import { getHealth, getMetrics, getReady } from "./routes/status.ts";
import { postDetokenize, postTokenize } from "./routes/tokenize.ts";
import { securityHeaders } from "./security_headers.ts";
import type { ServerState, Service } from "./service.ts";

type Handler = (c: Context, service: Service) => Response | Promise<Response>;

const HANDLERS: Readonly<Record<OperationId, Handler>> = {
  createChatCompletion: postChatCompletions,
  createCompletion: postCompletions,
  createResponse: postResponses,
  listModels: getModels,
  getModel,
  listAdapters: getAdapters,
  loadAdapter: postLoadAdapter,
  unloadAdapter: postUnloadAdapter,
  tokenize: postTokenize,
  detokenize: postDetokenize,
  getHealth,
  getReady,
  getMetrics,
  getOpenApi,
  getDocs,
  getPage,
  getPageFile,
};

export function createApp(state: ServerState): Hono {
  const app = new Hono();
  app.use(observe(state), securityHeaders);
  const answerError = (c: Context, error: unknown): Response => {
    logUnexpected(serviceFor(state, c), error);
    const { body, status, headers, code } = toApiError(error);
    recordOf(c).facts.error = code ?? "invalid_request";
    return Response.json(body, { status, headers });
  };
  app.onError((error, c) => answerError(c, error));
  app.notFound((c) => {
    const known = operations()
      .map(([, { method, path }]) => `${method} ${path}`)
      .join(", ");
    const message = `Unknown route ${c.req.method} ${c.req.path}; this server has ${known}`;
    return answerError(c, new ApiError(404, "unknown_route", message));
  });
  app.use(...browserAccess(state.browserAccess));

  for (const [id, operation] of operations()) {
    const { method, path } = operation;
    // A model's name may hold slashes.
    const pattern = path.replace("{id}", ":id{.+}");
    const steps = [
      enter(state, id, operation),
      ...(method === "POST" ? [readBody(state.maxBodyBytes, state.bodySeconds), noteBody(state)] : []),
    ];
    app.on([method], [pattern], ...steps, (c) => HANDLERS[id](c, serviceFor(state, c)));
  }
  return app;
}

/** Who may ask for this now; all of it before the request's body is read. */
function enter(state: ServerState, id: OperationId, operation: Operation): MiddlewareHandler {
  return async (c, next) => {
    const record = recordOf(c);
    record.facts.operation = id;
    if (operation.open) return await next();
    const client = clientOf(state, c);
    record.facts.client = client.name;
    if (operation.admin && !client.admin) throw notAdmin();
    if (!operation.generates) return await next();
    if (state.running.draining) throw shuttingDown();
    checkQueue(state);
    const admitted = state.limits.enter(client.name);
    record.whenEnded(admitted.leave);
    record.spend = admitted.spend;
    limitTime(state, c);
    await next();
    for (const [name, value] of Object.entries(admitted.headers())) c.res.headers.set(name, value);
  };
}

/** Throws an ApiError (401) for a request without one of the keys that there are. */
function clientOf({ apiKeys }: ServerState, c: Context): Client {
  const client = apiKeys ? apiKeys.find(c.req.header("authorization")) : ANYONE;
  if (!client) throw invalidApiKey();
  return client;
}

/** Throws an ApiError (429) when the queue is full. */
function checkQueue({ served, admission }: ServerState): void {
  const state = served?.engine.state;
  if (state?.status === "ready") admission.check(state.model.maxSequences);
}

function limitTime({ requestSeconds }: ServerState, c: Context): void {
  if (requestSeconds === 0) return;
  const record = recordOf(c);
  const timer = setTimeout(() => record.stop(requestTimeout(requestSeconds)), requestSeconds * 1000);
  record.whenEnded(() => clearTimeout(timer));
}

/** With --log-prompts: what the client sent, before anything is made of it. */
function noteBody({ log, logPrompts }: ServerState): MiddlewareHandler {
  return async (c, next) => {
    if (logPrompts) log.info({ requestId: recordOf(c).id, body: await c.req.text() }, "prompt");
    await next();
  };
}
