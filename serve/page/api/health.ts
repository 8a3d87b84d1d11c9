/** GET /health: how the server is. */
import { send } from "./request.ts";

/** Bytes of memory, by what they hold. */
export type MemoryParts = Readonly<Record<string, number>>;

export type Health =
  | {
      readonly status: "ready";
      readonly model: string;
      readonly version: string;
      readonly engine: EngineFacts;
      readonly bytes: MemoryParts;
    }
  | {
      readonly status: "loading";
      readonly model: string;
      readonly stage: string;
      readonly done: number;
      readonly total: number;
    }
  | { readonly status: "restarting" | "failed"; readonly model: string; readonly error: string }
  | { readonly status: "no_model"; readonly version: string; readonly message: string }
  | { readonly status: "closed" };

export interface EngineFacts {
  readonly device: string;
  readonly isa: string;
  readonly threads: number;
  readonly context_length: number;
}

/** Its statuses beside 200 are part of what it tells. Throws a RequestError when the server is away. */
export async function getHealth(): Promise<Health> {
  const response = await send("/health");
  return (await response.json()) as Health;
}
