/** What can go wrong with a hub: what another try may mend, and what it cannot. Every message is one line. */

/** No further try helps. */
export class HubError extends Error {
  override readonly name = "HubError";
}

/** Worth another try; the message is a reason ("the hub answered 503") that `withRetries` puts into a sentence. */
export class TransientFailure extends Error {
  override readonly name = "TransientFailure";
  /** How long the server asked to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(reason: string, retryAfterMs?: number) {
    super(reason);
    this.retryAfterMs = retryAfterMs;
  }
}

/** What was asked of the hub, for its errors. */
export interface Asked {
  /** "ORG/NAME" */
  readonly repository: string;
  readonly revision: string;
  readonly endpoint: string;
  /** Where the token came from, never the token: undefined without one. */
  readonly tokenFrom: string | undefined;
}

const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);

export function isTransient(status: number): boolean {
  return TRANSIENT.has(status) || status >= 520;
}

/** The error for a hub's refusal; `X-Error-Code` is how the hub tells a missing repository from a missing revision. */
export function refusal(status: number, headers: Headers, asked: Asked): HubError {
  const { repository, revision, endpoint, tokenFrom } = asked;
  const code = headers.get("x-error-code") ?? "";
  const page = `${endpoint}/${repository}`;
  const fail = (reason: string) => new HubError(`Cannot pull ${repository}: ${reason}`);
  if (code === "GatedRepo") {
    return fail(
      tokenFrom === undefined
        ? `it is gated (${status}): accept its licence at ${page}, then set HF_TOKEN to a token of that account`
        : `it is gated (${status}) and the account of ${tokenFrom} has no access: accept its licence at ${page}`,
    );
  }
  if (code === "RevisionNotFound") return fail(`it has no revision ${JSON.stringify(revision)}`);
  if (code === "EntryNotFound") return fail(`revision ${revision} lists a file that ${endpoint} does not have`);
  if (status === 401 && tokenFrom === undefined) {
    return fail(
      `${endpoint} has no public repository of this name (401): check it; set HF_TOKEN if it is private or gated`,
    );
  }
  if (status === 401) return fail(`${endpoint} refuses the token from ${tokenFrom} (401): set HF_TOKEN to a valid one`);
  if (status === 403) {
    const wanted = tokenFrom === undefined ? "set HF_TOKEN" : `the token from ${tokenFrom} may not read it`;
    return fail(`access is refused (403): ${wanted}; if it is gated, accept its licence at ${page}`);
  }
  if (status === 404) return fail(`${endpoint} has no such repository or revision ${JSON.stringify(revision)} (404)`);
  const said = printable(headers.get("x-error-message") ?? "");
  return fail(`${endpoint} answered ${status}${said && ` (${said})`}`);
}

/** Text of a stranger, safe to print: no control characters, which could drive a terminal, and not long. */
export function printable(text: string): string {
  const clean = text.replace(/\p{C}/gu, "?");
  return clean.length > 200 ? `${clean.slice(0, 200)}...` : clean;
}

/** What to say when the disk refuses; other errors are passed through. */
export function diskFailure(error: unknown, path: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const reason = {
    ENOSPC: "the disk is full",
    EDQUOT: "the disk quota is used up",
    EROFS: "the file system is read-only",
    EACCES: "no permission",
    EPERM: "no permission",
    EFBIG: "the file is too large for this file system",
  }[String(code)];
  return reason === undefined ? error : new HubError(`Cannot write ${path}: ${reason}`);
}
