/** What POST /tokenize and POST /detokenize accept; the shapes are vLLM's. */
import { z } from "zod";
import { chatRequest } from "./chat.ts";
import type { RequestSpec } from "./check.ts";
import { model } from "./common.ts";

const tokenizeSchema = z.strictObject({
  model: model.optional(),
  prompt: z.string().optional().meta({ description: "The text; either this or messages." }),
  messages: chatRequest.schema.shape.messages.optional(),
  add_special_tokens: z
    .boolean()
    .optional()
    .meta({ description: "Default: true for a prompt, false for messages, whose template writes them itself." }),
  add_generation_prompt: z
    .boolean()
    .default(true)
    .meta({ description: "Ends messages where the assistant's answer begins." }),
  return_token_strs: z.boolean().default(false),
});

const detokenizeSchema = z.strictObject({ model: model.optional(), tokens: z.array(z.int().min(0)) });

export const tokenizeRequest: RequestSpec<typeof tokenizeSchema> = {
  schema: tokenizeSchema,
  harmless: new Set(),
  refused: {
    chat_template: "the model's own is used",
    chat_template_kwargs: "the model's own template is used as it is",
    continue_final_message: "answers begin a message",
  },
  items: chatRequest.items,
};

export const detokenizeRequest: RequestSpec<typeof detokenizeSchema> = {
  schema: detokenizeSchema,
  harmless: new Set(),
  refused: {},
};
