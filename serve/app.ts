/** The routes, and what is common to all of them. What they do is in the files they call. */
import { type Context, Hono } from "hono";
import { limitBody } from "./body.ts";
import { ApiError, toApiError } from "./errors.ts";
import { requestId } from "./request_id.ts";
import { postChatCompletions } from "./routes/chat.ts";
import { postCompletions } from "./routes/completions.ts";
import { getModel, getModels } from "./routes/models.ts";
import { logUnexpected } from "./routes/respond.ts";
import { postResponses } from "./routes/responses.ts";
import { getHealth, getMetrics, getReady } from "./routes/status.ts";
import { postDetokenize, postTokenize } from "./routes/tokenize.ts";
import type { Service } from "./service.ts";

type Handler = (c: Context, service: Service) => Response | Promise<Response>;

interface Route {
  readonly method: "GET" | "POST";
  /** As OpenAPI writes it. */
  readonly path: string;
  readonly handler: Handler;
  /** Hands work to the engine: refused while the queue is full, before its body is read. */
  readonly generates?: boolean;
}

export const ROUTES: readonly Route[] = [
  { method: "POST", path: "/v1/chat/completions", handler: postChatCompletions, generates: true },
  { method: "POST", path: "/v1/completions", handler: postCompletions, generates: true },
  { method: "POST", path: "/v1/responses", handler: postResponses, generates: true },
  { method: "GET", path: "/v1/models", handler: getModels },
  { method: "GET", path: "/v1/models/{id}", handler: getModel },
  { method: "POST", path: "/tokenize", handler: postTokenize },
  { method: "POST", path: "/detokenize", handler: postDetokenize },
  { method: "GET", path: "/health", handler: getHealth },
  { method: "GET", path: "/ready", handler: getReady },
  { method: "GET", path: "/metrics", handler: getMetrics },
];

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
    const known = ROUTES.map(({ method, path }) => `${method} ${path}`).join(", ");
    const message = `Unknown route ${c.req.method} ${c.req.path}; this server has ${known}`;
    return answerError(new ApiError(404, "unknown_route", message));
  });

  const limit = limitBody(service.maxBodyBytes, answerError);
  for (const { method, path, handler, generates } of ROUTES) {
    // A model's name may hold slashes.
    const pattern = path.replace("{id}", ":id{.+}");
    if (method === "GET") {
      app.get(pattern, (c) => handler(c, service));
      continue;
    }
    app.post(
      pattern,
      async (_c, next) => {
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
