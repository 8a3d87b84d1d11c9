/** GET /v1/models: what a request may name as its model. */
import { requestJson } from "./request.ts";

export interface Model {
  readonly id: string;
  /** Of an adapter: the base it belongs to. */
  readonly parent?: string | null;
  /** Tokens of a request and its answer together, once the model is loaded. */
  readonly max_model_len?: number;
}

/** The base first. Throws a RequestError. */
export async function getModels(): Promise<readonly Model[]> {
  return (await requestJson<{ data: readonly Model[] }>("/v1/models")).data;
}
