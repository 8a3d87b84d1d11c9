/** What went wrong, in words for the person at the page: what happened and what to do about it. */

export type TroubleKind =
  /** Nobody answers at the server's address. */
  | "away"
  /** The connection broke in the middle of an answer. */
  | "cut_off"
  /** The server wants an API key, or another one. */
  | "key"
  | "no_model"
  /** The model is being loaded, or the engine started again: it passes by itself. */
  | "starting"
  | "failed"
  | "stopping"
  | "busy"
  | "too_long"
  | "unknown_model"
  | "refused";

export interface Trouble {
  readonly kind: TroubleKind;
  readonly title: string;
  readonly advice: string;
  /** What the server said, where that says more. */
  readonly detail?: string;
}

/** OpenAI's error object, as far as it is read here. */
export interface ErrorObject {
  readonly message?: unknown;
  readonly code?: unknown;
}

export const AWAY: Trouble = {
  kind: "away",
  title: "The server does not answer",
  advice:
    "See whether it still runs, and start it again if not: npm start. This page goes on by itself once it is back.",
};

export const CUT_OFF: Trouble = {
  kind: "cut_off",
  title: "The connection broke before the answer was complete",
  advice: "What had arrived is kept. Try again once the server is back.",
};

export const UNREADABLE: Trouble = {
  kind: "failed",
  title: "The server's answer cannot be read",
  advice: "Something between this page and the server may have changed it. Try again, without a proxy if there is one.",
};

const KEY: Trouble = {
  kind: "key",
  title: "The server wants an API key",
  advice: "Enter one of the keys in the file that the server was started with (--api-key-file).",
};

const FORBIDDEN: Trouble = {
  kind: "refused",
  title: "The server does not allow this",
  advice: "It may want a key with more rights, or a folder inside the ones it was given.",
};

const BY_CODE: Readonly<Record<string, Trouble>> = {
  no_model: {
    kind: "no_model",
    title: "No model is loaded",
    advice: "Stop the server and start it with a model: npm start -- --model DIR",
  },
  loading: { kind: "starting", title: "The model is still being loaded", advice: "Try again when it is ready." },
  engine_restarting: {
    kind: "starting",
    title: "The engine stopped before the answer was complete",
    advice: "What is here is kept. Try again once the engine has been started again, which takes a moment.",
  },
  engine_failed: {
    kind: "failed",
    title: "The engine cannot run this model",
    advice: "The server's log says why. Start it again when that is mended.",
  },
  adapter_unavailable: {
    kind: "unknown_model",
    title: "This adapter's files cannot be read any more",
    advice: "The server's log says why. Choose another one above, or load it again.",
  },
  shutting_down: { kind: "stopping", title: "The server is stopping", advice: "Try again once it is back." },
  rate_limit_exceeded: {
    kind: "busy",
    title: "The server is busy",
    advice: "Too many requests wait already. Try again in a moment.",
  },
  admin_key_required: {
    kind: "key",
    title: "This needs a key that may change what is served",
    advice: "Enter one of the keys in the file of --admin-key-file.",
  },
  request_timeout: {
    kind: "busy",
    title: "The answer took longer than the server lets it",
    advice: "Ask for a shorter one in the settings, or start the server with a longer --request-timeout.",
  },
  context_length_exceeded: {
    kind: "too_long",
    title: "This conversation is longer than the model can read",
    advice:
      "Begin a new one, edit an earlier message to go on from there, or lower the longest answer in the settings.",
  },
  model_not_found: {
    kind: "unknown_model",
    title: "This model or adapter is not there any more",
    advice: "Choose another one above, then try again.",
  },
};

/** What a refused request, or an error in the middle of a stream, means. `status` is 0 in a stream. */
export function troubleOf(status: number, error: ErrorObject | undefined): Trouble {
  const detail = typeof error?.message === "string" && error.message !== "" ? { detail: error.message } : {};
  const known = typeof error?.code === "string" && Object.hasOwn(BY_CODE, error.code) ? BY_CODE[error.code] : undefined;
  if (known) return { ...known, ...detail };
  if (status === 401) return { ...KEY, ...detail };
  if (status === 403) return { ...FORBIDDEN, ...detail };
  if (status === 429) return { ...BY_CODE.rate_limit_exceeded!, ...detail };
  if (status >= 500 || status === 0) {
    return {
      kind: "failed",
      title: "The server failed on this request",
      advice: "Try again; its log says what happened.",
      ...detail,
    };
  }
  return { kind: "refused", title: "The server refused this request", advice: "Change what it names.", ...detail };
}

/** Whether the same request may well succeed later, unchanged. */
export function mayPass({ kind }: Trouble): boolean {
  return kind !== "too_long" && kind !== "refused";
}
