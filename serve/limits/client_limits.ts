/** How much each client may ask for: requests and tokens a minute, requests at a time. */
import { ApiError } from "../errors.ts";
import { TokenBucket } from "./token_bucket.ts";

/** Each is undefined where there is no limit. */
export interface LimitSettings {
  readonly requestsPerMinute: number | undefined;
  readonly tokensPerMinute: number | undefined;
  readonly requestsAtOnce: number | undefined;
}

/** A request that was let in. */
export interface Admitted {
  /** OpenAI's headers about what is left: https://platform.openai.com/docs/guides/rate-limits */
  headers(): Record<string, string>;
  /** Counts tokens that were read or written for it. */
  spend(tokens: number): void;
  /** Call it once, when the request has ended. */
  leave(): void;
}

interface ClientState {
  readonly requests: TokenBucket | undefined;
  readonly tokens: TokenBucket | undefined;
  running: number;
}

export class ClientLimits {
  readonly #settings: LimitSettings;
  readonly #now: (() => number) | undefined;
  readonly #clients = new Map<string, ClientState>();

  /** `now`: see TokenBucket. */
  constructor(settings: LimitSettings, now?: () => number) {
    this.#settings = settings;
    this.#now = now;
  }

  /**
   * Lets a request of `client` in. Names come from the key files, so there are no more of them than keys.
   *
   * @throws ApiError (429) that says when to come back
   */
  enter(client: string): Admitted {
    const state = this.#state(client);
    const { requests, tokens } = state;
    const { requestsAtOnce = Number.POSITIVE_INFINITY } = this.#settings;
    const headers = () => ({ ...rateHeaders("requests", requests), ...rateHeaders("tokens", tokens) });
    if (state.running >= requestsAtOnce) {
      const what = `${state.running} requests of this key are running, at most ${requestsAtOnce} may (--requests-at-once)`;
      throw new ApiError(429, "rate_limit_exceeded", `Too many requests: ${what}; try again later`, null, headers());
    }
    refuseWhileEmpty("requests", requests, headers);
    refuseWhileEmpty("tokens", tokens, headers);
    requests?.take(1);
    state.running++;
    return {
      headers,
      spend: (count) => tokens?.take(count),
      leave: () => {
        state.running--;
      },
    };
  }

  #state(client: string): ClientState {
    const known = this.#clients.get(client);
    if (known) return known;
    const bucket = (perMinute: number | undefined) =>
      perMinute === undefined ? undefined : new TokenBucket(perMinute, this.#now);
    const { requestsPerMinute, tokensPerMinute } = this.#settings;
    const state = { requests: bucket(requestsPerMinute), tokens: bucket(tokensPerMinute), running: 0 };
    this.#clients.set(client, state);
    return state;
  }
}

type Unit = "requests" | "tokens";

function refuseWhileEmpty(unit: Unit, bucket: TokenBucket | undefined, headers: () => Record<string, string>): void {
  if (!bucket || bucket.waitMs === 0) return;
  const ms = Math.ceil(bucket.waitMs);
  const limit = `this key may use ${bucket.perMinute} ${unit} a minute (--${unit}-per-minute)`;
  throw new ApiError(429, "rate_limit_exceeded", `Rate limit reached: ${limit}; try again in ${ms} ms`, null, {
    ...headers(),
    "retry-after": `${Math.ceil(ms / 1000)}`,
    // OpenAI's clients look at this one first.
    "retry-after-ms": `${ms}`,
  });
}

function rateHeaders(unit: Unit, bucket: TokenBucket | undefined): Record<string, string> {
  if (!bucket) return {};
  return {
    [`x-ratelimit-limit-${unit}`]: `${bucket.perMinute}`,
    [`x-ratelimit-remaining-${unit}`]: `${bucket.remaining}`,
    [`x-ratelimit-reset-${unit}`]: duration(bucket.resetMs),
  };
}

/** As OpenAI writes it: 120ms, 1.5s, 6m0s. */
function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 10) / 100;
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${Math.ceil(seconds % 60)}s`;
}
