/** GET /v1/lora_adapters, POST /v1/load_lora_adapter and POST /v1/unload_lora_adapter */
import type { Context } from "hono";
import { AdapterError, type AdapterRefusal } from "../../runtime/adapters/failure.ts";
import { ModeNeededError } from "../../runtime/adapters/open.ts";
import type { LoadedAdapter } from "../../runtime/adapters/registry.ts";
import { EngineRequestError } from "../../runtime/engine/client.ts";
import { readJson } from "../body.ts";
import { ApiError, type ErrorStatus, invalidRequest } from "../errors.ts";
import { loadAdapterRequest, unloadAdapterRequest } from "../schemas/adapters.ts";
import { parseRequest } from "../schemas/check.ts";
import { modelNotFound } from "../served_model.ts";
import { requireServed, type Service } from "../service.ts";

export function getAdapters(c: Context, { served }: Service): Response {
  return c.json({ object: "list", data: (served?.adapters.list() ?? []).map(adapterObject) });
}

export async function postLoadAdapter(c: Context, service: Service): Promise<Response> {
  const served = requireServed(service);
  const request = parseRequest(loadAdapterRequest, await readJson(c));
  const { lora_name: name, base_model_name: base } = request;
  if (base !== undefined && base !== served.name) throw modelNotFound(served, base);
  try {
    const dir = await served.adapterRoots.resolve(request.lora_path);
    const { mode, load_inplace: inPlace, expected_generation: expected } = request;
    return c.json(adapterObject(await served.adapters.load({ name, dir, mode, inPlace, expected })));
  } catch (error) {
    throw toRefusal(error);
  }
}

export async function postUnloadAdapter(c: Context, service: Service): Promise<Response> {
  const served = requireServed(service);
  const { lora_name: name, expected_generation: expected } = parseRequest(unloadAdapterRequest, await readJson(c));
  try {
    return c.json(adapterObject(served.adapters.unload(name, expected)));
  } catch (error) {
    throw toRefusal(error);
  }
}

function adapterObject({ name, dir, ...adapter }: LoadedAdapter): object {
  return {
    lora_name: name,
    lora_path: dir,
    generation: adapter.generation,
    mode: adapter.mode,
    rank: adapter.rank,
    targets: adapter.targets,
    bytes: adapter.bytes,
    sha256: adapter.sha256,
    loaded: adapter.loaded,
  };
}

/** What each refusal is to a client. */
const REFUSALS: Readonly<Record<AdapterRefusal, readonly [status: ErrorStatus, code: string, param: string]>> = {
  bad_name: [400, "invalid_lora_name", "lora_name"],
  exists: [400, "adapter_exists", "lora_name"],
  unknown_name: [404, "adapter_not_found", "lora_name"],
  conflict: [409, "generation_conflict", "expected_generation"],
  busy: [429, "adapter_loading", "lora_name"],
  no_roots: [403, "adapter_loading_disabled", "lora_path"],
  outside: [403, "path_not_allowed", "lora_path"],
  no_folder: [404, "path_not_found", "lora_path"],
};

/** An error of loading or unloading as the client is told it. */
function toRefusal(error: unknown): unknown {
  if (error instanceof AdapterError) {
    const [status, code, param] = REFUSALS[error.reason];
    return new ApiError(status, code, error.message, param);
  }
  if (error instanceof ModeNeededError) return invalidRequest(error.message, "mode", "mode_required");
  if (error instanceof EngineRequestError) return invalidRequest(error.message, "lora_path", "invalid_adapter");
  return error;
}
