/** Errors as OpenAI's clients expect them: a status and `{ error: { message, type, param, code } }`. */
import { EngineRequestError, type EngineState, EngineUnavailableError } from "../runtime/engine/client.ts";

export type ErrorStatus = 400 | 401 | 404 | 405 | 413 | 429 | 500 | 503;

/** Seconds after which a client may try again what is refused only for now. */
const RETRY_AFTER = "2";

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
    const type =
      this.status >= 500 ? "server_error" : this.status === 429 ? "rate_limit_error" : "invalid_request_error";
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }

  /** When to try again. Of what stays refused until someone acts, OpenAI's clients are told not to. */
  get headers(): Record<string, string> {
    if (this.status !== 429 && this.status !== 503) return {};
    return this.code !== null && LASTING.has(this.code)
      ? { "x-should-retry": "false" }
      : { "retry-after": RETRY_AFTER };
  }
}

export function invalidRequest(message: string, param: string | null = null, code: string | null = null): ApiError {
  return new ApiError(400, code, message, param);
}

/** A request without one of the keys of --api-key-file. */
export function invalidApiKey(): ApiError {
  const message = "Incorrect API key: expected the header authorization: Bearer KEY with one of this server's keys";
  return new ApiError(401, "invalid_api_key", message);
}

/** A field that OpenAI defines, or a value of it, that this server does not honour. */
export function unsupported(param: string, what: string): ApiError {
  return invalidRequest(
    `Unsupported parameter: ${what} is not supported by this server`,
    param,
    "unsupported_parameter",
  );
}

/** More requests wait for the engine than the server was told to let wait. */
export function queueFull(waiting: number, maxQueue: number): ApiError {
  const message = `Too many requests: ${waiting} wait already, at most ${maxQueue} may (--max-queue); try again later`;
  return new ApiError(429, "rate_limit_exceeded", message);
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

/** Codes of 503 that no waiting changes. */
const LASTING: ReadonlySet<string> = new Set(["no_model", UNAVAILABLE_CODES.failed, UNAVAILABLE_CODES.closed]);

/** What a client is told about any error; one that is not meant for it is only named as internal. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineRequestError) return invalidRequest(error.message);
  if (error instanceof EngineUnavailableError) {
    return new ApiError(503, UNAVAILABLE_CODES[error.state.status], error.message);
  }
  return new ApiError(500, "internal_error", "The server failed on this request; its log says why");
}
