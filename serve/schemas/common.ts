/** Fields that several routes share. */
import { z } from "zod";

/** OpenAI's limit on the number; the length bounds the cost of looking for partial matches. */
const MAX_STOPS = 4;
const MAX_STOP_CHARACTERS = 1000;
/** The engine's own limit. */
const MAX_LOGIT_BIASES = 300;
/** Answers to one request, over all its prompts. */
export const MAX_CHOICES = 128;

const stopString = z.string().min(1).max(MAX_STOP_CHARACTERS);

export const model = z.string().meta({ description: "Name of the model or of an adapter, as in GET /v1/models." });

/** How tokens are drawn, for every route that generates. */
export const drawing = {
  temperature: z.number().min(0).max(2).optional().meta({ description: "0 takes the most likely token." }),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.int().min(-1).optional().meta({ description: "Not OpenAI's. 0 or -1: off." }),
  min_p: z.number().min(0).max(1).optional().meta({ description: "Not OpenAI's." }),
  repetition_penalty: z.number().positive().max(10).optional().meta({ description: "Not OpenAI's. 1: off." }),
};

/** What chat completions and completions have in common beside that. */
export const sampling = {
  ...drawing,
  presence_penalty: z.number().min(-2).max(2).default(0),
  frequency_penalty: z.number().min(-2).max(2).default(0),
  seed: z.int().optional().meta({ description: "Choice number i of a request is drawn with seed + i." }),
  logit_bias: z
    .record(z.string().regex(/^\d{1,9}$/, "expected a token id as key"), z.number().min(-100).max(100))
    .refine((biases) => Object.keys(biases).length <= MAX_LOGIT_BIASES, `expected at most ${MAX_LOGIT_BIASES} entries`)
    .default({})
    .meta({ description: "Token id to a value that is added to its logit." }),
  stop: z
    .union([stopString.transform((one) => [one]), z.array(stopString).max(MAX_STOPS)])
    .default([])
    .meta({ description: "The answer ends before the first of these." }),
  n: z
    .int()
    .min(1)
    .max(MAX_CHOICES)
    .default(1)
    .meta({ description: `Choices per prompt; at most ${MAX_CHOICES} per request.` }),
  ignore_eos: z
    .boolean()
    .default(false)
    .meta({ description: "Not OpenAI's. Answers have exactly the tokens asked for." }),
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({ include_usage: z.boolean().default(false), include_obfuscation: z.literal(false).optional() })
    .optional(),
};

/** Fields about who asks and what for: they cannot change an answer of this server. */
export const about = {
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  service_tier: z.enum(["auto", "default"]).optional(),
};
