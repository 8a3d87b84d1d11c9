/** Function tools and output formats, in the shapes of chat completions and of responses. */
import { z } from "zod";
import type { ToolChoice, ToolDefinition } from "../../runtime/grammar/tools/grammar.ts";

const MAX_TOOLS = 128;

/** OpenAI's own rule for names. */
export const functionName = z.string().regex(/^[\w-]{1,64}$/, "expected 1 to 64 letters, digits, _ or -");

const jsonSchema = z.record(z.string(), z.unknown());

const definition = {
  name: functionName,
  description: z.string().nullish(),
  parameters: jsonSchema.nullish().meta({ description: "A JSON schema for the arguments." }),
  strict: z.boolean().nullish().meta({ description: "Arguments are held to the schema, not only to being JSON." }),
};

function toDefinition({ name, description, parameters, strict }: z.output<typeof definitionObject>): ToolDefinition {
  return {
    name,
    ...(description != null && { description }),
    ...(parameters != null && { parameters }),
    strict: strict ?? false,
  };
}

const definitionObject = z.strictObject(definition);

const choiceWord = z.enum(["none", "auto", "required"]);

/** As chat completions have them. */
export const chatTools = z
  .array(z.strictObject({ type: z.literal("function"), function: definitionObject }))
  .max(MAX_TOOLS)
  .default([])
  .transform((tools) => tools.map((tool) => toDefinition(tool.function)))
  .meta({ description: "Functions that the model may call; their format is the one the model's template teaches." });

export const chatToolChoice = z
  .union([
    choiceWord,
    z
      .strictObject({ type: z.literal("function"), function: z.strictObject({ name: functionName }) })
      .transform((choice): ToolChoice => ({ name: choice.function.name })),
  ])
  .default("auto");

/** As responses have them. */
export const responseTools = z
  .array(z.strictObject({ type: z.literal("function"), ...definition }))
  .max(MAX_TOOLS)
  .default([])
  .transform((tools) => tools.map(({ type: _, ...tool }) => toDefinition(tool)))
  .meta({ description: "Function tools only." });

export const responseToolChoice = z
  .union([
    choiceWord,
    z.strictObject({ type: z.literal("function"), name: functionName }).transform(({ name }): ToolChoice => ({ name })),
  ])
  .default("auto");

export const parallelToolCalls = z
  .boolean()
  .default(true)
  .meta({ description: "Whether an answer may hold several calls." });

/** What the text of an answer must be. */
export type TextFormat =
  | { readonly type: "text" }
  | { readonly type: "json_object" }
  | {
      readonly type: "json_schema";
      readonly name: string;
      readonly description?: string;
      readonly schema: Readonly<Record<string, unknown>>;
      readonly strict: boolean;
    };

const plainFormat = z
  .strictObject({ type: z.enum(["text", "json_object"]) })
  .transform(({ type }): TextFormat => ({ type }));

const schemaFormat = {
  name: functionName,
  description: z.string().nullish(),
  schema: jsonSchema.nullish(),
  strict: z.boolean().nullish().meta({ description: "Keywords that would not be enforced are an error." }),
};

function toFormat({ name, description, schema, strict }: z.output<typeof schemaObject>): TextFormat {
  return {
    type: "json_schema",
    name,
    ...(description != null && { description }),
    schema: schema ?? {},
    strict: strict ?? false,
  };
}

const schemaObject = z.strictObject(schemaFormat);

const FORMATS = { error: "expected text, json_object or json_schema" };

export const chatFormat = z
  .discriminatedUnion(
    "type",
    [
      plainFormat,
      z
        .strictObject({ type: z.literal("json_schema"), json_schema: schemaObject })
        .transform((format) => toFormat(format.json_schema)),
    ],
    FORMATS,
  )
  .default({ type: "text" })
  .meta({ description: "text, json_object or json_schema: the answer is constrained while it is generated." });

export const responseFormat = z
  .discriminatedUnion(
    "type",
    [
      plainFormat,
      z.strictObject({ type: z.literal("json_schema"), ...schemaFormat }).transform((format) => toFormat(format)),
    ],
    FORMATS,
  )
  .default({ type: "text" });
