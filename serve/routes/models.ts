/** GET /v1/models and GET /v1/models/{id} */
import type { Context } from "hono";
import { modelNames, modelNotFound, type ServedModel } from "../served_model.ts";
import { requireServed, type Service } from "../service.ts";

export function getModels(c: Context, { served }: Service): Response {
  return c.json({ object: "list", data: served ? modelNames(served).map((id) => modelObject(served, id)) : [] });
}

export function getModel(c: Context, service: Service): Response {
  const served = requireServed(service);
  const id = c.req.param("id") ?? "";
  if (!modelNames(served).includes(id)) throw modelNotFound(served, id);
  return c.json(modelObject(served, id));
}

/** OpenAI's object, and what servers of open models add: `parent` of an adapter, and the context's length once it is known. */
function modelObject({ name, created, engine }: ServedModel, id: string): object {
  return {
    id,
    object: "model",
    created,
    owned_by: "apiq",
    ...(id !== name && { parent: name }),
    ...(engine.state.status === "ready" && { max_model_len: engine.state.model.contextLength }),
  };
}
