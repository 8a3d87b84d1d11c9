/** POST /v1/load_lora_adapter and /v1/unload_lora_adapter; the fields are vLLM's, and two more. */
import { z } from "zod";
import type { RequestSpec } from "./check.ts";

const name = z.string().min(1).max(128);

const expectedGeneration = z.int().min(0).optional().meta({
  description: "The name's generation must be this one, 0 for none; otherwise nothing changes and the answer is 409.",
});

const loadAdapterSchema = z.strictObject({
  lora_name: name.meta({ description: "What requests write as their model." }),
  lora_path: z.string().min(1).max(4096).meta({
    description:
      "Folder with adapter_config.json and adapter_model.safetensors, in one of the server's --adapter-root folders.",
  }),
  load_inplace: z
    .boolean()
    .default(false)
    .meta({ description: "The name may have an adapter already: new requests get the new one." }),
  mode: z
    .enum(["replace", "stack"])
    .optional()
    .meta({
      description:
        "What becomes of the model's calibrated LoRA: the adapter takes its place, or comes on top of it. Default: what the " +
        "adapter's apiq.json says, or else stack.",
    }),
  expected_generation: expectedGeneration,
  base_model_name: z.string().optional().meta({ description: "Must be the served model's name." }),
});

const unloadAdapterSchema = z.strictObject({
  lora_name: name,
  expected_generation: expectedGeneration,
});

export const loadAdapterRequest: RequestSpec<typeof loadAdapterSchema> = {
  schema: loadAdapterSchema,
  harmless: new Set(),
  refused: { is_3d_lora_weight: "there are no models with experts here" },
};

export const unloadAdapterRequest: RequestSpec<typeof unloadAdapterSchema> = {
  schema: unloadAdapterSchema,
  harmless: new Set(),
  refused: { lora_int_id: "adapters go by their names" },
};
