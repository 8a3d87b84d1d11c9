/** Requests to the server this page came from, with the API key if there is one. */
import { signal } from "@preact/signals";
import { apiKey } from "../state/api_key.ts";
import { AWAY, type ErrorObject, type Trouble, troubleOf, UNREADABLE } from "./trouble.ts";

/** The server wants a key, or another than it got. */
export const keyIsWanted = signal(false);

export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly trouble: Trouble;

  constructor(trouble: Trouble) {
    super(trouble.detail ?? trouble.title);
    this.trouble = trouble;
  }
}

/** Throws a RequestError unless the answer is a success, and an AbortError when `init.signal` is aborted. */
export async function request(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await send(path, init);
  if (response.ok) return response;
  if (response.status === 401) keyIsWanted.value = true;
  throw new RequestError(troubleOf(response.status, await errorObject(response)));
}

/** The answer whatever its status. Throws a RequestError when there is none, and an AbortError. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (apiKey.value !== "") headers.set("authorization", `Bearer ${apiKey.value}`);
  try {
    return await fetch(path, { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new RequestError(AWAY);
  }
}

/** The answer's JSON, as the shape that the caller knows it to have. */
export async function requestJson<T>(path: string): Promise<T> {
  const response = await request(path);
  try {
    return (await response.json()) as T;
  } catch {
    throw new RequestError(UNREADABLE);
  }
}

export function postJson(path: string, body: object, signal?: AbortSignal): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), ...(signal && { signal }) });
}

async function errorObject(response: Response): Promise<ErrorObject | undefined> {
  try {
    return ((await response.json()) as { error?: ErrorObject } | null)?.error;
  } catch {
    return undefined;
  }
}
