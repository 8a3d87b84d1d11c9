/** The routes, and what is common to all of them. What they do is in the files they call. */
import { type Context, Hono } from "hono";
import { limitBody } from "./body.ts";
import { ApiError, invalidApiKey, toApiError } from "./errors.ts";
import { type OperationId, operations } from "./operations.ts";
import { requestId } from "./request_id.ts";
import { postChatCompletions } from "./routes/chat.ts";
import { postCompletions } from "./routes/completions.ts";
import { getDocs, getOpenApi } from "./routes/documentation.ts";
import { getModel, getModels } from "./routes/models.ts";
import { logUnexpected } from "./routes/respond.ts";
import { postResponses } from "./routes/responses.ts";
import { getHealth, getMetrics, getReady } from "./routes/status.ts";
import { postDetokenize, postTokenize } from "./routes/tokenize.ts";
import type { Service } from "./service.ts";

/** What says nothing of anyone's requests: probes and documents need no key. */
const OPEN: ReadonlySet<OperationId> = new Set(["getHealth", "getReady", "getMetrics", "getOpenApi", "getDocs"]);

type Handler = (c: Context, service: Service) => Response | Promise<Response>;

const HANDLERS: Readonly<Record<OperationId, Handler>> = {
  createChatCompletion: postChatCompletions,
  createCompletion: postCompletions,
  createResponse: postResponses,
  listModels: getModels,
  getModel,
  tokenize: postTokenize,
  detokenize: postDetokenize,
  getHealth,
  getReady,
  getMetrics,
  getOpenApi,
  getDocs,
};

export function createApp(service: Service): Hono {
  const app = new Hono();

  const answerError = (error: unknown): Response => {
    logUnexpected(service, error);
    const { body, status, headers } = toApiError(error);
    return Response.json(body, { status, headers });
  };
  app.use(requestId);
  app.onError(answerError);
  app.notFound((c) => {
    const known = operations()
      .map(([, { method, path }]) => `${method} ${path}`)
      .join(", ");
    const message = `Unknown route ${c.req.method} ${c.req.path}; this server has ${known}`;
    return answerError(new ApiError(404, "unknown_route", message));
  });

  const limit = limitBody(service.maxBodyBytes, answerError);
  for (const [id, { method, path, generates }] of operations()) {
    const handler = HANDLERS[id];
    // A model's name may hold slashes.
    const pattern = path.replace("{id}", ":id{.+}");
    const checkKey = (c: Context): void => {
      if (!OPEN.has(id) && service.apiKeys?.accepts(c.req.header("authorization")) === false) throw invalidApiKey();
    };
    if (method === "GET") {
      app.get(pattern, (c) => {
        checkKey(c);
        return handler(c, service);
      });
      continue;
    }
    app.post(
      pattern,
      async (c, next) => {
        checkKey(c);
        if (generates) checkQueue(service);
        await next();
      },
      limit,
      (c) => handler(c, service),
    );
  }
  return app;
}

/** Throws an ApiError (429) when the queue is full. */
function checkQueue({ served, admission }: Service): void {
  const state = served?.engine.state;
  if (state?.status === "ready") admission.check(state.model.maxSequences);
}
