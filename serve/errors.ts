/** Errors as OpenAI's clients expect them: a status and `{ error: { message, type, param, code } }`. */
import { EngineRequestError, type EngineState, EngineUnavailableError } from "../runtime/engine/client.ts";

export type ErrorStatus = 400 | 404 | 405 | 413 | 500 | 503;

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An error a client is meant to see. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: ErrorStatus;
  readonly code: string | null;
  readonly param: string | null;

  constructor(status: ErrorStatus, code: string | null, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }

  get body(): ErrorBody {
    const type = this.status >= 500 ? "server_error" : "invalid_request_error";
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }
}

export function invalidRequest(message: string, param: string | null = null, code: string | null = null): ApiError {
  return new ApiError(400, code, message, param);
}

/** A field that OpenAI defines, or a value of it, that this server does not honour. */
export function unsupported(param: string, what: string): ApiError {
  return invalidRequest(
    `Unsupported parameter: ${what} is not supported by this server`,
    param,
    "unsupported_parameter",
  );
}

export function noModel(): ApiError {
  const make = "make one with: scripts/apiq import MODEL.gguf --out DIR";
  return new ApiError(503, "no_model", `No model is loaded; ${make} and start with: npm start -- --model DIR`);
}

const UNAVAILABLE_CODES: Readonly<Record<EngineState["status"], string>> = {
  loading: "loading",
  restarting: "engine_restarting",
  failed: "engine_failed",
  closed: "shutting_down",
  // Ready again by the time the client is told: its request was lost to the restart all the same.
  ready: "engine_restarting",
};

/** What a client is told about any error; one that is not meant for it is only named as internal. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineRequestError) return invalidRequest(error.message);
  if (error instanceof EngineUnavailableError) {
    return new ApiError(503, UNAVAILABLE_CODES[error.state.status], error.message);
  }
  return new ApiError(500, "internal_error", "The server failed on this request; its log says why");
}
