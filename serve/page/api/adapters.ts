/** GET /v1/lora_adapters, POST /v1/load_lora_adapter and POST /v1/unload_lora_adapter. All throw a RequestError. */
import { postJson, requestJson } from "./request.ts";

export interface Adapter {
  readonly lora_name: string;
  readonly lora_path: string;
  /** Another one after every load. */
  readonly generation: number;
  /** Whether it takes the place of the model's calibrated LoRA or comes on top of it. */
  readonly mode: "replace" | "stack";
  readonly rank: number;
  readonly bytes: number;
}

export interface AdapterToLoad {
  readonly name: string;
  /** A folder as the server sees it. */
  readonly path: string;
  readonly mode?: Adapter["mode"];
  /** The generation whose place it takes; absent: the name is new. */
  readonly replaces?: number;
}

export async function getAdapters(): Promise<readonly Adapter[]> {
  return (await requestJson<{ data: readonly Adapter[] }>("/v1/lora_adapters")).data;
}

export async function loadAdapter({ name, path, mode, replaces }: AdapterToLoad): Promise<void> {
  const inPlace = replaces !== undefined && { load_inplace: true, expected_generation: replaces };
  const body = { lora_name: name, lora_path: path, ...(mode && { mode }), ...inPlace };
  await postJson("/v1/load_lora_adapter", body);
}

export async function unloadAdapter({ lora_name, generation }: Adapter): Promise<void> {
  await postJson("/v1/unload_lora_adapter", { lora_name, expected_generation: generation });
}
