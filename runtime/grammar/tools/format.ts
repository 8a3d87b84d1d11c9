/** How a model writes its tool calls: what its chat template taught it, found out from the template and the vocabulary. */

/**
 * - hermes (also Qwen 2.5 and 3): `<tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>`, one pair of tags for each call
 * - llama3: the whole answer is `{"name": "f", "parameters": {...}}`, perhaps after `<|python_tag|>`, with `; ` between calls
 * - mistral: `[TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]` and nothing after it
 */
export type ToolFamily = "hermes" | "llama3" | "mistral";

export interface ToolFormat {
  readonly family: ToolFamily;
  /** Whether the chat template renders tools. If not, prompt.ts describes them in a system message, in the hermes way. */
  readonly inTemplate: boolean;
}

const FALLBACK: ToolFormat = { family: "hermes", inTemplate: false };

/**
 * @param template the chat template's source (that of "tool_use" where there are several), undefined if there is none
 * @param vocabulary tokens by id
 */
export function toolFormatOf(template: string | undefined, vocabulary: readonly (string | undefined)[]): ToolFormat {
  if (template === undefined || !/\btools\b/.test(template)) return FALLBACK;
  // Mistral's newer format, `[TOOL_CALLS]name[ARGS]{...}`, is another one: better our own than a wrong guess.
  const isOldMistral = template.includes("[TOOL_CALLS]") && !template.includes("[ARGS]");
  if (isOldMistral) return { family: "mistral", inTemplate: true };
  // Qwen3-Coder's template has the tag too, but XML inside it.
  if (template.includes("<tool_call>") && !template.includes("<function="))
    return { family: "hermes", inTemplate: true };
  const isLlama3 = vocabulary.includes("<|python_tag|>") && /["']parameters["']/.test(template);
  return isLlama3 ? { family: "llama3", inTemplate: true } : FALLBACK;
}
