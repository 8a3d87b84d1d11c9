/** Text to token ids and back. */
export { type ChatMessage, ChatTemplateError, type ChatTemplateOptions, isChatMessage } from "./chat_template.ts";
export { Detokenizer } from "./detokenizer.ts";
export { type DecodeOptions, type EncodeOptions, hasTokenizer, openTokenizer, Tokenizer } from "./tokenizer.ts";
