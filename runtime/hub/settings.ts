import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HubError } from "./failure.ts";

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  /** Where the token came from, for messages. */
  readonly tokenFrom: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The variables that Hugging Face's own tools read: HF_ENDPOINT, HF_TOKEN, or else the file HF_TOKEN_PATH, HF_HOME/token or
 * ~/.cache/huggingface/token, where their `login` puts it.
 *
 * @throws {HubError} for an endpoint that is no http address, for a token that no header can hold.
 */
export function hubSettings(environment: Environment, home: string): HubSettings {
  const endpoint = (environment.HF_ENDPOINT?.trim() || "https://huggingface.co").replace(/\/+$/, "");
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  // An address that holds a password is not repeated.
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash)
    throw new HubError(
      "Cannot use HF_ENDPOINT: expected an address such as https://huggingface.co, without user or query",
    );
  const { token, tokenFrom } = findToken(environment, home);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw new HubError(`Cannot use the token from ${tokenFrom}: it holds spaces or characters outside ASCII`);
  return { endpoint, token, tokenFrom };
}

function findToken(environment: Environment, home: string): Pick<HubSettings, "token" | "tokenFrom"> {
  const given = environment.HF_TOKEN?.trim();
  if (given) return { token: given, tokenFrom: "HF_TOKEN" };
  const cache = environment.XDG_CACHE_HOME || join(home, ".cache");
  const path = environment.HF_TOKEN_PATH || join(environment.HF_HOME || join(cache, "huggingface"), "token");
  try {
    const token = readFileSync(path, "utf8").trim();
    if (token) return { token, tokenFrom: path };
  } catch {
    // No file, no token: public repositories need none.
  }
  return { token: undefined, tokenFrom: undefined };
}
