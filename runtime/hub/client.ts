/** HTTP towards a hub: who gets the token, redirects, servers that fall silent, which answers are failures. */
import { type Asked, HubError, isTransient, refusal, TransientFailure } from "./failure.ts";
import { type RetryPolicy, retryAfterMs, withRetries } from "./retry.ts";
import type { HubSettings } from "./settings.ts";

export interface ClientOptions {
  readonly settings: HubSettings;
  readonly repository: string;
  readonly revision: string;
  readonly retry: RetryPolicy;
  /** Silence after which a connection is given up. */
  readonly stallMs?: number;
}

/** An answer whose body has not been read. */
export interface Exchange {
  readonly status: number;
  readonly headers: Headers;
  /** The body's pieces; throws TransientFailure when the connection breaks or falls silent. Read it or call `close`. */
  chunks(): AsyncGenerator<Uint8Array>;
  close(): void;
}

const STALL_MS = 60_000;
const MAX_REDIRECTS = 8;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** A page of a listing is about 200 KB; a server that sends more than this is no hub. */
const MAX_DOCUMENT_BYTES = 64 * 2 ** 20;

export class HubClient {
  readonly asked: Asked;
  readonly retry: RetryPolicy;
  readonly #origin: string;
  readonly #token: string | undefined;
  readonly #stallMs: number;

  constructor({ settings, repository, revision, retry, stallMs = STALL_MS }: ClientOptions) {
    this.asked = { repository, revision, endpoint: settings.endpoint, tokenFrom: settings.tokenFrom };
    this.retry = retry;
    this.#origin = new URL(settings.endpoint).origin;
    this.#token = settings.token;
    this.#stallMs = stallMs;
  }

  /**
   * One GET, redirects followed. The token goes to the endpoint's own origin only, never to where a redirect leads.
   *
   * @param accept the statuses that are answers; any other is a failure
   * @throws {TransientFailure} for what another try may mend, {HubError} for a refusal
   */
  async open(address: string, headers: Readonly<Record<string, string>>, accept: readonly number[]): Promise<Exchange> {
    let url = new URL(address);
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const exchange = await this.#get(url, headers);
      if (accept.includes(exchange.status)) return exchange;
      exchange.close();
      if (!REDIRECTS.has(exchange.status)) throw this.#failure(exchange, url);
      url = redirectTarget(url, exchange.headers.get("location"));
    }
    throw new HubError(`Cannot pull ${this.asked.repository}: more than ${MAX_REDIRECTS} redirects`);
  }

  /** A `fetch` for small documents, read whole: what the hub's library is given, so that it too follows the rules above. */
  readonly fetch = Object.assign(
    (input: string | URL | Request): Promise<Response> => {
      const address = input instanceof Request ? input.url : String(input);
      return withRetries(`pull ${this.asked.repository}`, this.retry, async () => {
        const exchange = await this.open(address, { accept: "application/json" }, [200]);
        return new Response(await readDocument(exchange), { status: 200, headers: exchange.headers });
      });
    },
    // Bun's type of fetch has this member; warming up a connection is no use here.
    { preconnect: () => {} },
  );

  async #get(url: URL, headers: Readonly<Record<string, string>>): Promise<Exchange> {
    const { signal } = this.retry;
    const silence = new Silence(this.#stallMs, signal);
    const all: Record<string, string> = { "user-agent": "apiq", "accept-encoding": "identity", ...headers };
    if (this.#token !== undefined && url.origin === this.#origin) all.authorization = `Bearer ${this.#token}`;
    const broken = (error: unknown): unknown => {
      if (signal.aborted) return signal.reason;
      if (silence.isOver) return new TransientFailure(`${url.host} sent nothing for ${this.#stallMs / 1000} s`);
      // Deno's refusal to let this process use the network.
      if (error instanceof Error && error.name === "NotCapable")
        return new HubError(`Cannot reach ${url.host}: no --allow-net`);
      return new TransientFailure(`the connection to ${url.host} failed${codeOf(error)}`);
    };
    let response: Response;
    try {
      response = await silence.guard(fetch(url, { headers: all, redirect: "manual", signal: silence.signal }));
    } catch (error) {
      throw broken(error);
    }
    const reader = response.body?.getReader();
    const close = (): void => {
      // Not waited for, and a connection that is broken already is as closed as it gets.
      reader?.cancel().catch(() => {});
    };
    async function* chunks(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) {
          const piece = reader && (await silence.guard(reader.read()));
          if (!piece?.value) return;
          yield piece.value;
        }
      } catch (error) {
        throw broken(error);
      } finally {
        close();
      }
    }
    return { status: response.status, headers: response.headers, chunks, close };
  }

  #failure({ status, headers }: Exchange, url: URL): Error {
    const who = url.origin === this.#origin ? "the hub" : url.host;
    if (isTransient(status))
      return new TransientFailure(`${who} answered ${status}`, retryAfterMs(headers.get("retry-after")));
    // A storage host knows neither licences nor tokens: its signed addresses expire, and asking the hub again gives a new one.
    if (url.origin !== this.#origin) return new TransientFailure(`${who} answered ${status}`);
    return refusal(status, headers, this.asked);
  }
}

/** Ends what takes longer than `ms`, or is no longer wanted. */
class Silence {
  /** Aborted by either; for `fetch`, which then lets go of the connection. */
  readonly signal: AbortSignal;
  readonly #over = new AbortController();
  readonly #ms: number;

  constructor(ms: number, unwanted: AbortSignal) {
    this.#ms = ms;
    this.signal = AbortSignal.any([unwanted, this.#over.signal]);
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Does not rely on `work` to end when the signal does: a read under way may not notice. */
  async guard<T>(work: Promise<T>): Promise<T> {
    const { promise: ended, reject } = Promise.withResolvers<never>();
    const end = (): void => reject(new Error("ended"));
    const timer = setTimeout(() => this.#over.abort(), this.#ms);
    this.signal.addEventListener("abort", end);
    if (this.signal.aborted) end();
    try {
      return await Promise.race([work, ended]);
    } finally {
      clearTimeout(timer);
      this.signal.removeEventListener("abort", end);
    }
  }
}

function redirectTarget(from: URL, location: string | null): URL {
  const target = location !== null && URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  const safe = target?.protocol === "https:" || (target?.protocol === "http:" && from.protocol === "http:");
  if (!target || !safe)
    throw new HubError(`Cannot follow ${from.host}: it redirects to no http address, or from https to http`);
  return target;
}

async function readDocument(exchange: Exchange): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of exchange.chunks()) {
    bytes += piece.length;
    if (bytes > MAX_DOCUMENT_BYTES) throw new HubError("Cannot read the hub's listing: it is larger than 64 MiB");
    pieces.push(piece);
  }
  // fetch decodes what a proxy compressed unasked; the length is then another one's.
  const expected = exchange.headers.has("content-encoding") ? null : exchange.headers.get("content-length");
  if (expected !== null && Number(expected) !== bytes) throw new TransientFailure("the connection broke midway");
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Error codes say what happened; the messages name whole addresses, and a signed one is a secret. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
}
