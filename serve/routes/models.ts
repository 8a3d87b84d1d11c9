/** GET /v1/models and GET /v1/models/{id} */
import type { Context } from "hono";
import { findAdapter, modelNames, type ServedModel } from "../served_model.ts";
import { requireServed, type Service } from "../service.ts";

export function getModels(c: Context, { served }: Service): Response {
  return c.json({ object: "list", data: served ? modelNames(served).map((id) => modelObject(served, id)) : [] });
}

export function getModel(c: Context, service: Service): Response {
  return c.json(modelObject(requireServed(service), c.req.param("id") ?? ""));
}

/**
 * OpenAI's object, and what vLLM adds: `root`, the folder, `parent` of an adapter, and the context's length once it is known. Throws an
 * ApiError (404) for names that are none.
 */
function modelObject(served: ServedModel, id: string): object {
  const { name, dir, created, engine } = served;
  const adapter = findAdapter(served, id);
  return {
    id,
    object: "model",
    created: adapter?.loaded ?? created,
    owned_by: "apiq",
    root: adapter?.dir ?? dir,
    parent: adapter ? name : null,
    ...(engine.state.status === "ready" && { max_model_len: engine.state.model.contextLength }),
  };
}
