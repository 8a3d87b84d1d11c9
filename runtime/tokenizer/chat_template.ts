/** Chat templates: Jinja as transformers renders it (trim_blocks and lstrip_blocks on, raise_exception, strftime_now, tojson). */
import { Template } from "@huggingface/jinja";
import { isObject } from "../formats/json.ts";

/** One message as the template sees it. Roles, tool calls and the like are the template's business. */
export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [key: string]: unknown;
}

/** Whether `value` can be a message; one that calls tools may say nothing. */
export function isChatMessage(value: unknown): value is ChatMessage {
  if (!isObject(value) || typeof value.role !== "string") return false;
  const says = typeof value.content === "string" || Array.isArray(value.content);
  return says || (Array.isArray(value.tool_calls) && (value.content ?? null) === null);
}

export interface ChatTemplateOptions {
  /** Ends the text where the assistant's answer begins. Default true. */
  readonly addGenerationPrompt?: boolean;
  readonly tools?: readonly unknown[];
  readonly documents?: readonly unknown[];
  /** Further variables of the template, such as enable_thinking. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** The messages cannot be rendered: the template refused them, or it has a fault. */
export class ChatTemplateError extends Error {
  override readonly name = "ChatTemplateError";
}

/** A model's template or, by name, several of them, with the texts of its special tokens as variables. */
export class ChatTemplate {
  readonly #templates = new Map<string, Template>();
  /** Source of the template that renders messages with tools; undefined if there is none for them. */
  readonly toolSource: string | undefined;
  readonly #tokens: Readonly<Record<string, string>>;

  /** @throws {ChatTemplateError} for a template that does not parse. */
  constructor(sources: Readonly<Record<string, string>>, tokens: Readonly<Record<string, string>>) {
    for (const [name, source] of Object.entries(sources)) {
      this.#templates.set(
        name,
        attempt("parse", () => new Template(source)),
      );
    }
    this.#tokens = tokens;
    this.toolSource = sources.tool_use ?? sources.default;
  }

  /** @throws {ChatTemplateError} when the template raises an exception. */
  render(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const { addGenerationPrompt = true, tools = null, documents = null, variables } = options;
    const template = (tools === null ? undefined : this.#templates.get("tool_use")) ?? this.#templates.get("default");
    if (template === undefined)
      throw new ChatTemplateError("Cannot render messages: there is no default chat template");
    const items = {
      ...this.#tokens,
      ...variables,
      messages,
      tools,
      documents,
      add_generation_prompt: addGenerationPrompt,
    };
    return attempt("render", () => template.render(items));
  }
}

function attempt<T>(verb: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ChatTemplateError(`Cannot ${verb} chat template: ${reason}`, { cause: error });
  }
}
