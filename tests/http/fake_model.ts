/**
 * A model folder without weights: a byte-level tokenizer whose token ids are the byte values, and a chat template. Together
 * with fake_engine.ts it stands for a real model wherever only the way between HTTP and engine is tested.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const MESSAGE_START = 256;
export const MESSAGE_END = 257;

const CHAT_TEMPLATE =
  "{% for message in messages %}" +
  "{% if loop.index0 > 0 and message.role == messages[loop.index0 - 1].role %}{{ raise_exception('Roles must alternate') }}" +
  "{% endif %}{{ '<|start|>' + message.role + '\\n' + message.content + '<|end|>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}";

/** Writes the folder; `remove` deletes it. */
export function createFakeModel(generationConfig?: object): { dir: string; remove(): void } {
  const dir = mkdtempSync(join(tmpdir(), "apiq-fake-model-"));
  const write = (name: string, content: object) => writeFileSync(join(dir, name), JSON.stringify(content));
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  write("tokenizer.json", {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [special(MESSAGE_START, "<|start|>"), special(MESSAGE_END, "<|end|>")],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", vocab: byteVocabulary(), merges: [] },
  });
  write("tokenizer_config.json", {
    tokenizer_class: "PreTrainedTokenizerFast",
    eos_token: "<|end|>",
    chat_template: CHAT_TEMPLATE,
  });
  write("config.json", { model_type: "llama", eos_token_id: MESSAGE_END });
  if (generationConfig) write("generation_config.json", generationConfig);
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/**
 * GPT-2's printable stand-ins for bytes, each with its byte as id: bytes that print as themselves stay, the others take code
 * points from 256 on (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode).
 */
function byteVocabulary(): Record<string, number> {
  const vocabulary: Record<string, number> = {};
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    vocabulary[String.fromCodePoint(prints ? byte : next++)] = byte;
  }
  return vocabulary;
}
