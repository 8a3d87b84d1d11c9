/** What the routes work with. */
import type { Admission } from "./admission.ts";
import type { ApiKeys } from "./api_keys.ts";
import { noModel } from "./errors.ts";
import type { RequestMetrics } from "./metrics/request_metrics.ts";
import type { ServedModel } from "./served_model.ts";

export interface Service {
  /** Undefined: the server runs without a model and says so. */
  readonly served: ServedModel | undefined;
  readonly version: string;
  /** Largest request body in bytes. */
  readonly maxBodyBytes: number;
  readonly admission: Admission;
  /** Undefined: everyone may ask. */
  readonly apiKeys: ApiKeys | undefined;
  readonly metrics: RequestMetrics;
  /** Where errors that are not a client's are reported. */
  log(text: string): void;
}

/** Throws an ApiError (503) if there is no model. */
export function requireServed({ served }: Service): ServedModel {
  if (!served) throw noModel();
  return served;
}
