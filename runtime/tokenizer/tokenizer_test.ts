import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { assertFormatError, inFolder } from "../formats/test_files.ts";
import { type ChatMessage, ChatTemplateError } from "./chat_template.ts";
import { hasTokenizer, openTokenizer } from "./tokenizer.ts";

interface Golden {
  texts: { text: string; ids: number[]; decoded: string }[];
  chats: { messages: ChatMessage[]; text: string; ids: number[] }[];
}

const model = sharedPath("models/SmolLM2-135M-Instruct");
const golden = (): Golden => JSON.parse(readFileSync(sharedPath("golden/tokenizer.json"), "utf8"));

/** A folder with a byte-level tokenizer of three tokens, and whatever else is given. */
const withFolder = (files: Record<string, string>, body: (dir: string) => void): Promise<void> =>
  inFolder((dir) => {
    const tokenizer = {
      version: "1.0",
      added_tokens: [{ id: 2, content: "<end>", special: true, normalized: false }],
      normalizer: null,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      post_processor: null,
      decoder: { type: "ByteLevel" },
      model: { type: "BPE", vocab: { a: 0, b: 1 }, merges: [] },
    };
    writeFileSync(join(dir, "tokenizer.json"), JSON.stringify(tokenizer));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
    body(dir);
  });

describe("Tokenizer", () => {
  itShared("encodes and decodes as transformers does", () => {
    const tokenizer = openTokenizer(model);
    for (const { text, ids, decoded } of golden().texts) {
      assertEquals(tokenizer.encode(text), ids, text);
      assertEquals(tokenizer.decode(ids), decoded, text);
    }
  });

  itShared("renders and encodes chats as transformers does", () => {
    const tokenizer = openTokenizer(model);
    for (const { messages, text, ids } of golden().chats) {
      assertEquals(tokenizer.applyChatTemplate(messages), text);
      assertEquals(tokenizer.encodeChat(messages), ids);
    }
  });

  itShared("streams every text of the golden file whole", () => {
    const tokenizer = openTokenizer(model);
    for (const { ids, decoded } of golden().texts) {
      const stream = tokenizer.detokenizer();
      const deltas = ids.map((id) => stream.push(id));
      assertEquals(deltas.join("") + stream.flush(), decoded);
      assertFalse(deltas.some((delta) => delta.includes("\uFFFD")));
    }
  });

  itShared("knows stop tokens, special tokens and the vocabulary", () => {
    const tokenizer = openTokenizer(model);
    assertEquals(tokenizer.stopTokens, [2]);
    assert(tokenizer.isSpecial(1));
    assertEquals(tokenizer.vocabulary.length, 49152);
    assertEquals(tokenizer.vocabulary[2], "<|im_end|>");
    assertEquals(tokenizer.decode([1, 2], { skipSpecialTokens: false }), "<|im_start|><|im_end|>");
  });

  it("gives no text to ids outside the vocabulary", async () => {
    await withFolder({}, (dir) => {
      const tokenizer = openTokenizer(dir);
      assertEquals(tokenizer.decode([0, 77, 1, 2]), "ab");
      assertEquals(tokenizer.decode([]), "");
      assertEquals(tokenizer.encode("", { addSpecialTokens: false }), []);
    });
  });

  it("collects stop tokens from all files", async () => {
    const files = {
      "generation_config.json": '{"eos_token_id": [7, 8]}',
      "config.json": '{"eos_token_id": 8}',
      "tokenizer_config.json": '{"eos_token": {"content": "<end>"}}',
    };
    await withFolder(files, (dir) => assertEquals(openTokenizer(dir).stopTokens, [7, 8, 2]));
  });

  it("ends a text with the tokenizer's own end token, or else the first stop token", async () => {
    const generation = { "generation_config.json": '{"eos_token_id": [7, 8]}' };
    const own = { ...generation, "tokenizer_config.json": '{"eos_token": "<end>"}' };
    await withFolder(own, (dir) => assertEquals(openTokenizer(dir).endToken, 2));
    await withFolder(generation, (dir) => assertEquals(openTokenizer(dir).endToken, 7));
    await withFolder({}, (dir) => assertEquals(openTokenizer(dir).endToken, undefined));
  });

  it("prefers chat_template.jinja and passes tools, variables and special tokens", async () => {
    const files = {
      "tokenizer_config.json": '{"eos_token": "<end>", "chat_template": "unused"}',
      "chat_template.jinja":
        "{% if tools %}{{ tools | tojson }}\n{% endif %}{{ mode }}{{ messages[0].content }}{{ eos_token }}",
    };
    await withFolder(files, (dir) => {
      const tokenizer = openTokenizer(dir);
      const messages = [{ role: "user", content: "hi" }];
      assertEquals(tokenizer.applyChatTemplate(messages, { variables: { mode: "x" } }), "xhi<end>");
      assertEquals(tokenizer.applyChatTemplate(messages, { tools: [{ a: 1 }] }), '[{"a": 1}]\nhi<end>');
    });
  });

  it("picks the template for tools out of a list", async () => {
    const templates = [
      { name: "default", template: "plain" },
      { name: "tool_use", template: "tools" },
    ];
    await withFolder({ "tokenizer_config.json": JSON.stringify({ chat_template: templates }) }, (dir) => {
      const tokenizer = openTokenizer(dir);
      assertEquals(tokenizer.applyChatTemplate([]), "plain");
      assertEquals(tokenizer.applyChatTemplate([], { tools: [] }), "tools");
    });
  });

  it("says why messages cannot be rendered", async () => {
    await withFolder({}, (dir) => {
      const tokenizer = openTokenizer(dir);
      assertFalse(tokenizer.hasChatTemplate);
      assertThrows(() => tokenizer.applyChatTemplate([]), ChatTemplateError, "has no chat template");
    });
    await withFolder({ "chat_template.jinja": '{{ raise_exception("roles must alternate") }}' }, (dir) => {
      assertThrows(() => openTokenizer(dir).applyChatTemplate([]), ChatTemplateError, "roles must alternate");
    });
    await withFolder({ "chat_template.jinja": "{% if %}" }, (dir) => {
      assertThrows(() => openTokenizer(dir), ChatTemplateError, "Cannot parse chat template");
    });
  });

  it("names the file that is missing or broken", async () => {
    await withFolder({ "tokenizer.json": "{}" }, (dir) => {
      assert(hasTokenizer(dir));
      assertFormatError(() => openTokenizer(dir), join(dir, "tokenizer.json"));
    });
    await inFolder((dir) => assertFormatError(() => openTokenizer(dir), "tokenizer.json", "it does not exist"));
  });
});
