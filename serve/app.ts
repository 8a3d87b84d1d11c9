/** The routes. What they do is in the files they call. */
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { modelNotFound, startCompletion } from "./chat.ts";
import { completionEvents, completionObject } from "./chat_objects.ts";
import { ApiError, invalidRequest, noModel, toApiError } from "./errors.ts";
import { healthObject } from "./health.ts";
import { parseChatRequest } from "./schemas.ts";
import type { ServedModel } from "./served_model.ts";
import { eventStream } from "./sse.ts";

export interface AppOptions {
  /** Undefined: the server runs without a model and says so. */
  readonly served: ServedModel | undefined;
  readonly version: string;
  /** Largest request body in bytes. */
  readonly maxBodyBytes: number;
  /** Where errors that are not a client's are reported. */
  log(text: string): void;
}

const ROUTES = ["POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{id}", "GET /health"];

export function createApp({ served, version, maxBodyBytes, log }: AppOptions): Hono {
  const app = new Hono();

  const answerError = (error: unknown): Response => {
    const apiError = toApiError(error);
    if (apiError.status === 500) log(error instanceof Error ? (error.stack ?? error.message) : String(error));
    const headers: Record<string, string> = apiError.status === 503 ? { "retry-after": "2" } : {};
    return Response.json(apiError.body, { status: apiError.status, headers });
  };
  const requireServed = (): ServedModel => {
    if (!served) throw noModel();
    return served;
  };

  app.onError(answerError);
  app.notFound((c) => {
    const message = `Unknown route ${c.req.method} ${c.req.path}; this server has ${ROUTES.join(", ")}`;
    return answerError(new ApiError(404, "unknown_route", message));
  });

  app.get("/health", async () => {
    const { body, status } = await healthObject(served, version);
    return Response.json(body, { status });
  });

  app.get("/v1/models", (c) =>
    c.json({ object: "list", data: served ? modelNames(served).map(modelObject(served)) : [] }),
  );

  app.get("/v1/models/:id{.+}", (c) => {
    const model = requireServed();
    const id = c.req.param("id");
    if (!modelNames(model).includes(id)) throw modelNotFound(model, id);
    return c.json(modelObject(model)(id));
  });

  const tooLarge = () => {
    const message = `Cannot read request: its body is too large, expected at most ${maxBodyBytes} bytes`;
    return answerError(new ApiError(413, "request_too_large", message));
  };
  app.post("/v1/chat/completions", bodyLimit({ maxSize: maxBodyBytes, onError: tooLarge }), async (c) => {
    const model = requireServed();
    const request = parseChatRequest(await readJson(c));
    const gone = new AbortController();
    const completion = await startCompletion(model, request, AbortSignal.any([gone.signal, c.req.raw.signal]));
    if (request.stream) {
      return eventStream(completionEvents(completion, request, model.tokenizer), {
        onError: (error) => {
          log(error instanceof Error ? (error.stack ?? error.message) : String(error));
          return JSON.stringify(toApiError(error).body);
        },
        onCancel: () => gone.abort(),
      });
    }
    const body = await completionObject(completion, model.tokenizer);
    // Nobody reads an answer whose client is gone; 499 is what proxies log for it.
    return body ? c.json(body) : new Response(null, { status: 499 });
  });

  return app;
}

function modelNames({ name, adapters }: ServedModel): readonly string[] {
  return [name, ...adapters];
}

function modelObject({ name, created }: ServedModel): (id: string) => object {
  return (id) => ({ id, object: "model", created, owned_by: "apiq", ...(id !== name && { parent: name }) });
}

/** The body as JSON. Throws an ApiError if it is incomplete, not UTF-8 or not JSON. */
async function readJson(c: Context): Promise<unknown> {
  let bytes: ArrayBuffer;
  try {
    bytes = await c.req.arrayBuffer();
  } catch {
    throw invalidRequest("Cannot read request: its body ended too early", null, "invalid_json");
  }
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidRequest(`Cannot read request: its body is not JSON in UTF-8 (${reason})`, null, "invalid_json");
  }
}
