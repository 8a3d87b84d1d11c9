/** A running server's adapters, over its HTTP API. */
import { z } from "zod";
import type { AdapterMode } from "../formats/adapter.ts";

const listedAdapter = z.object({
  lora_name: z.string(),
  lora_path: z.string(),
  generation: z.int(),
  mode: z.enum(["replace", "stack"]),
  rank: z.int(),
  targets: z.int(),
  bytes: z.int(),
  sha256: z.string(),
  loaded: z.int(),
});
export type ListedAdapter = z.infer<typeof listedAdapter>;

const listing = z.object({ data: z.array(listedAdapter) });
const failure = z.object({ error: z.object({ message: z.string() }) });

export interface LoadOptions {
  readonly inPlace?: boolean;
  readonly mode?: AdapterMode | undefined;
  readonly expected?: number | undefined;
}

export class AdapterApi {
  readonly #url: string;
  readonly #key: string | undefined;

  /** @param key sent with every request, where the server asks for one */
  constructor(url: string, key: string | undefined) {
    this.#url = url.replace(/\/+$/, "");
    this.#key = key;
  }

  async list(): Promise<readonly ListedAdapter[]> {
    return listing.parse(await this.#ask("/v1/lora_adapters")).data;
  }

  /** `path` as the server sees it. */
  async load(name: string, path: string, { inPlace, mode, expected }: LoadOptions = {}): Promise<ListedAdapter> {
    const body = { lora_name: name, lora_path: path, load_inplace: inPlace, mode, expected_generation: expected };
    return listedAdapter.parse(await this.#ask("/v1/load_lora_adapter", body));
  }

  async unload(name: string, expected?: number): Promise<ListedAdapter> {
    return listedAdapter.parse(
      await this.#ask("/v1/unload_lora_adapter", { lora_name: name, expected_generation: expected }),
    );
  }

  /** Throws an Error with the server's own words, or with what else went wrong. */
  async #ask(path: string, body?: object): Promise<unknown> {
    const headers = { "content-type": "application/json", ...(this.#key && { authorization: `Bearer ${this.#key}` }) };
    const init = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
    let response: Response;
    try {
      response = await fetch(this.#url + path, init);
    } catch (error) {
      throw new Error(
        `Cannot reach ${this.#url}: ${error instanceof Error ? error.message : error}; is apiq serve running?`,
      );
    }
    const answer: unknown = await response.json().catch(() => undefined);
    if (response.ok) return answer;
    const refused = failure.safeParse(answer);
    throw new Error(refused.success ? refused.data.error.message : `${this.#url}${path} answered ${response.status}`);
  }
}
