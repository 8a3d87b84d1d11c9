/** What POST /v1/completions accepts. */
import { z } from "zod";
import type { RequestSpec } from "./check.ts";
import { about, MAX_CHOICES, model, sampling } from "./common.ts";

const MAX_LOGPROBS = 5;
/** OpenAI's default. */
const DEFAULT_MAX_TOKENS = 16;

const tokenIds = z.array(z.int().min(0)).min(1);

const honoured = {
  model,
  prompt: z
    .union([
      z.string().transform((text) => [text]),
      z.array(z.string()).min(1).max(MAX_CHOICES),
      tokenIds.transform((ids) => [ids]),
      z.array(tokenIds).min(1).max(MAX_CHOICES),
    ])
    .meta({ description: "A text, a list of texts, token ids, or a list of lists of token ids." }),
  max_tokens: z.int().min(0).default(DEFAULT_MAX_TOKENS).meta({ description: "0 needs echo." }),
  ...sampling,
  logprobs: z.int().min(0).max(MAX_LOGPROBS).optional().meta({ description: "Not together with echo." }),
  echo: z.boolean().default(false).meta({ description: "The prompt's text begins the answer's." }),
  add_special_tokens: z
    .boolean()
    .default(true)
    .meta({ description: "Not OpenAI's. Puts the tokenizer's own tokens around a text, such as a beginning-of-text." }),
};

const harmless = {
  user: about.user,
  best_of: z.literal(1).optional(),
};

const schema = z.strictObject({ ...honoured, ...harmless });

export type CompletionRequest = z.output<typeof schema>;

export const completionRequest: RequestSpec<typeof schema> = {
  schema,
  harmless: new Set(Object.keys(harmless)),
  refused: { suffix: "the models served do not fill in the middle" },
};
