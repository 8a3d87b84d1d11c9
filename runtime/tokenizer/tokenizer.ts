/** A model's tokenizer and chat template, from the files of its Hugging Face folder. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { FormatError } from "../formats/failure.ts";
import { isObject, type JsonObject, readJsonObject } from "../formats/json.ts";
import { type ChatMessage, ChatTemplate, ChatTemplateError, type ChatTemplateOptions } from "./chat_template.ts";
import { Detokenizer } from "./detokenizer.ts";

export interface EncodeOptions {
  /** Adds what the tokenizer puts around a text, such as a beginning-of-text token. Default true. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leaves special tokens such as end-of-text out. Default true. */
  readonly skipSpecialTokens?: boolean;
}

export function hasTokenizer(dir: string): boolean {
  return existsSync(join(dir, "tokenizer.json"));
}

/**
 * Reads tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json and config.json, of which only the
 * first has to be there.
 *
 * @throws {FormatError} for files that are missing or cannot be used, ChatTemplateError for a template that does not parse.
 */
export function openTokenizer(dir: string): Tokenizer {
  const optional = (name: string): JsonObject => (existsSync(join(dir, name)) ? readJsonObject(join(dir, name)) : {});
  const config = optional("tokenizer_config.json");
  const file = join(dir, "tokenizer.json");
  const inner = createInner(file, readJsonObject(file), config);
  const tokens = specialTokens(config);
  const [end] = idsOf(tokens.eos_token === undefined ? undefined : inner.token_to_id(tokens.eos_token));
  const stops = new Set([
    ...idsOf(optional("generation_config.json").eos_token_id),
    ...idsOf(optional("config.json").eos_token_id),
    ...idsOf(end),
  ]);
  const sources = templateSources(dir, config);
  const template = sources === undefined ? undefined : new ChatTemplate(sources, tokens);
  // The library's own default is true, transformers' is false since version 5.
  const cleanUp = config.clean_up_tokenization_spaces === true;
  return new Tokenizer(inner, cleanUp, [...stops], end, template);
}

const NONE: ReadonlySet<string> = new Set();

export class Tokenizer {
  readonly #inner: HuggingFaceTokenizer;
  readonly #cleanUp: boolean;
  readonly #special: ReadonlySet<number>;
  readonly #template: ChatTemplate | undefined;
  #vocabulary: readonly (string | undefined)[] | undefined;
  /** Ids that end an answer. */
  readonly stopTokens: readonly number[];
  /** The one of them that ends a text in training: tokenizer_config.json's eos_token, or else the first; undefined without any. */
  readonly endToken: number | undefined;

  constructor(
    inner: HuggingFaceTokenizer,
    cleanUp: boolean,
    stopTokens: readonly number[],
    endToken: number | undefined,
    template: ChatTemplate | undefined,
  ) {
    this.#inner = inner;
    this.#cleanUp = cleanUp;
    this.#template = template;
    const added = [...inner.get_added_tokens_decoder().values()];
    this.#special = new Set(added.filter(({ special }) => special).map(({ id }) => id));
    this.stopTokens = stopTokens;
    this.endToken = endToken ?? stopTokens[0];
  }

  get hasChatTemplate(): boolean {
    return this.#template !== undefined;
  }

  /** Source of the chat template that renders messages with tools; undefined without one. */
  get toolTemplate(): string | undefined {
    return this.#template?.toolSource;
  }

  /** Tokens as the tokenizer spells them, by id; undefined where an id is not used. */
  get vocabulary(): readonly (string | undefined)[] {
    if (this.#vocabulary === undefined) {
      const tokens: (string | undefined)[] = [];
      for (const [token, id] of this.#inner.get_vocab()) tokens[id] = token;
      this.#vocabulary = Array.from(tokens);
    }
    return this.#vocabulary;
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    return text === "" && !addSpecialTokens
      ? []
      : this.#inner.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  /** Ids that the vocabulary does not use (models pad it) have no text. */
  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const used = ids.filter((id) =>
      skipSpecialTokens ? !this.#hasNoText(id) : this.#inner.id_to_token(id) !== undefined,
    );
    if (used.length === 0) return "";
    return this.#inner.decode(used, { skip_special_tokens: false, clean_up_tokenization_spaces: this.#cleanUp });
  }

  /** For decoding a growing sequence; special tokens are left out, but for those in `shown`, given as they are spelled. */
  detokenizer(shown: ReadonlySet<string> = NONE): Detokenizer {
    return new Detokenizer(
      (ids) => this.decode(ids, { skipSpecialTokens: false }),
      (id) => this.#hasNoText(id) && !shown.has(this.#inner.id_to_token(id) ?? ""),
    );
  }

  /** @throws {ChatTemplateError} when there is no template or it refuses the messages. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    if (this.#template === undefined)
      throw new ChatTemplateError("Cannot render messages: the model has no chat template");
    return this.#template.render(messages, options);
  }

  /** The ids of the rendered messages. The template writes special tokens itself, so none are added. */
  encodeChat(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): number[] {
    return this.encode(this.applyChatTemplate(messages, options), { addSpecialTokens: false });
  }

  #hasNoText(id: number): boolean {
    return this.#special.has(id) || this.#inner.id_to_token(id) === undefined;
  }
}

function createInner(file: string, tokenizer: JsonObject, config: JsonObject): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(tokenizer, config);
  } catch (error) {
    throw new FormatError("use", { file, reason: error instanceof Error ? error.message : String(error) });
  }
}

/** bos_token, eos_token and so on: a text or an object with its text in `content`. */
function specialTokens(config: JsonObject): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    const text = isObject(value) ? value.content : value;
    if (key.endsWith("_token") && typeof text === "string") tokens[key] = text;
  }
  return tokens;
}

function idsOf(value: unknown): number[] {
  return (Array.isArray(value) ? value : [value]).filter((id) => Number.isSafeInteger(id) && id >= 0);
}

/** chat_template.jinja wins over tokenizer_config.json, which holds one template or a list of named ones. */
function templateSources(dir: string, config: JsonObject): Record<string, string> | undefined {
  const file = join(dir, "chat_template.jinja");
  if (existsSync(file)) return { default: readFileSync(file, "utf8") };
  const template = config.chat_template;
  if (typeof template === "string") return { default: template };
  if (!Array.isArray(template)) return undefined;
  const named = template.filter((entry) => isObject(entry) && typeof entry.template === "string");
  return Object.fromEntries(named.map(({ name, template }) => [name, template]));
}
