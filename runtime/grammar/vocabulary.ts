/** A model's tokens as XGrammar takes them. */
import { join } from "node:path";
import { isObject, readJsonObject } from "../formats/json.ts";
import { openTokenizer } from "../tokenizer/mod.ts";

/** How a token's spelling in the vocabulary stands for bytes: GPT-2's byte alphabet, `<0x0A>` with "▁" for a space, or itself. */
export type DecoderKind = "byte_level" | "byte_fallback" | "raw";

export interface GrammarVocabulary {
  /** By id; "" for a token that a grammar must never choose. */
  readonly tokens: readonly string[];
  readonly kind: DecoderKind;
  /** Allowed once the output is complete, and only then. */
  readonly stopTokens: readonly number[];
}

/** Special tokens that belong to the text of a tool call; all others are chosen by no grammar. */
export const TOOL_TOKENS: ReadonlySet<string> = new Set([
  "[TOOL_CALLS]",
  "[ARGS]",
  "<|python_tag|>",
  "<tool_call>",
  "</tool_call>",
]);

/**
 * Reads the tokenizer of a model folder.
 *
 * @param vocabSize columns of the model's logits; ids without a token (models pad their vocabulary) are chosen by no grammar
 */
export function readGrammarVocabulary(dir: string, vocabSize: number): GrammarVocabulary {
  const tokenizer = openTokenizer(dir);
  const spelled = tokenizer.vocabulary;
  const tokens = Array.from({ length: vocabSize }, (_, id) => {
    const token = spelled[id] ?? "";
    return tokenizer.isSpecial(id) && !TOOL_TOKENS.has(token) ? "" : token;
  });
  const kind = decoderKind(readJsonObject(join(dir, "tokenizer.json")).decoder);
  return { tokens, kind, stopTokens: tokenizer.stopTokens.filter((id) => id < vocabSize) };
}

function decoderKind(decoder: unknown): DecoderKind {
  const steps = isObject(decoder) && Array.isArray(decoder.decoders) ? decoder.decoders : [decoder];
  const types = steps.map((step) => (isObject(step) ? step.type : undefined));
  if (types.includes("ByteLevel")) return "byte_level";
  return types.includes("ByteFallback") || types.includes("Metaspace") ? "byte_fallback" : "raw";
}
