/** What the routes work with. */
import type { Admission } from "./admission.ts";
import type { ApiKeys } from "./api_keys.ts";
import { noModel } from "./errors.ts";
import type { BrowserAccess } from "./limits/browser_access.ts";
import type { ClientLimits } from "./limits/client_limits.ts";
import type { Log } from "./logging/log.ts";
import type { RequestMetrics } from "./metrics/request_metrics.ts";
import type { RequestRecord } from "./request_record.ts";
import type { RunningRequests } from "./running_requests.ts";
import type { ServedModel } from "./served_model.ts";
import type { Tracing } from "./tracing/tracing.ts";

/** What all requests have in common. */
export interface ServerState {
  /** Undefined: the server runs without a model and says so. */
  readonly served: ServedModel | undefined;
  readonly version: string;
  /** Largest request body in bytes. */
  readonly maxBodyBytes: number;
  /** How long a request's body may take to come. */
  readonly bodySeconds: number;
  /** How long an answer may take; 0: any time. */
  readonly requestSeconds: number;
  readonly admission: Admission;
  readonly limits: ClientLimits;
  /** Undefined: everyone may ask. */
  readonly apiKeys: ApiKeys | undefined;
  readonly browserAccess: BrowserAccess;
  readonly metrics: RequestMetrics;
  readonly running: RunningRequests;
  readonly log: Log;
  /** Undefined: no traces are made. */
  readonly tracing: Tracing | undefined;
  /** Whether the bodies of requests go to the log. */
  readonly logPrompts: boolean;
}

export interface Service extends ServerState {
  /** The request at hand. */
  readonly request: RequestRecord;
}

/** Throws an ApiError (503) if there is no model. */
export function requireServed({ served }: Service): ServedModel {
  if (!served) throw noModel();
  return served;
}
