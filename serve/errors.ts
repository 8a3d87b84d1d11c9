/** Errors as OpenAI's clients expect them: a status and `{ error: { message, type, param, code } }`. */
import {
  AdapterUnavailableError,
  EngineRequestError,
  type EngineState,
  EngineUnavailableError,
} from "../runtime/engine/client.ts";

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 429 | 500 | 503 | 504;

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
  readonly #headers: Readonly<Record<string, string>>;

  /** `headers`: sent with the answer, beside those that its status calls for. */
  constructor(
    status: ErrorStatus,
    code: string | null,
    message: string,
    param: string | null = null,
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.#headers = headers;
  }

  get body(): ErrorBody {
    const type =
      this.status >= 500 ? "server_error" : this.status === 429 ? "rate_limit_error" : "invalid_request_error";
    return { error: { message: this.message, type, param: this.param, code: this.code } };
  }

  /** With when to try again. Of what stays refused until someone acts, OpenAI's clients are told not to. */
  get headers(): Record<string, string> {
    return { ...this.#retry(), ...this.#headers };
  }

  #retry(): Record<string, string> {
    const isLasting = this.code !== null && LASTING.has(this.code);
    if (isLasting || this.status === 504) return { "x-should-retry": "false" };
    return this.status === 429 || this.status === 503 ? { "retry-after": RETRY_AFTER } : {};
  }
}

export function invalidRequest(message: string, param: string | null = null, code: string | null = null): ApiError {
  return new ApiError(400, code, message, param);
}

/** A request without one of the keys of --api-key-file or --admin-key-file. */
export function invalidApiKey(): ApiError {
  const message = "Incorrect API key: expected the header authorization: Bearer KEY with one of this server's keys";
  return new ApiError(401, "invalid_api_key", message, null, { "www-authenticate": "Bearer" });
}

/** A request with a key, but not one of those that may change what is served. */
export function notAdmin(): ApiError {
  return new ApiError(403, "admin_key_required", "Cannot do this with this key: expected one of --admin-key-file");
}

/** The server was told to stop, and only ends what it has begun. */
export function shuttingDown(): ApiError {
  return new ApiError(503, UNAVAILABLE_CODES.closed, "The server is shutting down; try again in a moment");
}

/** An answer took longer than the server lets it. */
export function requestTimeout(seconds: number): ApiError {
  return new ApiError(504, "request_timeout", `The answer took longer than ${seconds} s (--request-timeout)`);
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

/** How this program is called: from a clone, or as an installed package. */
const [PROGRAM, START] = import.meta.url.includes("/node_modules/")
  ? ["npx apiq", "npx apiq serve"]
  : ["scripts/apiq", "npm start --"];

export function noModel(): ApiError {
  const make = `make one with: ${PROGRAM} import MODEL.gguf --out DIR`;
  return new ApiError(503, "no_model", `No model is loaded; ${make} and start with: ${START} --model DIR`);
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
const LASTING: ReadonlySet<string> = new Set(["no_model", "adapter_unavailable", UNAVAILABLE_CODES.failed]);

/** What a client is told about any error; one that is not meant for it is only named as internal. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineRequestError) return invalidRequest(error.message);
  if (error instanceof EngineUnavailableError) {
    return new ApiError(503, UNAVAILABLE_CODES[error.state.status], error.message);
  }
  if (error instanceof AdapterUnavailableError) {
    return new ApiError(503, "adapter_unavailable", "The adapter cannot be read any more; the server's log says why");
  }
  return new ApiError(500, "internal_error", "The server failed on this request; its log says why");
}
