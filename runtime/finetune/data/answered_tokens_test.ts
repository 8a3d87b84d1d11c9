import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { itShared, sharedPath } from "../../../tests/shared.ts";
import { type ChatMessage, openTokenizer, type Tokenizer } from "../../tokenizer/mod.ts";
import { type AnsweredTokens, chatTokens, promptTokens } from "./answered_tokens.ts";

/** A tokenizer of single bytes, with a chat template; its stop token reads <|end|>. */
function byteTokenizer(template?: string, config: object = { eos_token: "<|end|>" }): Tokenizer {
  const model = createFakeModel();
  try {
    if (template !== undefined) {
      const settings = { ...config, chat_template: template };
      writeFileSync(join(model.dir, "tokenizer_config.json"), JSON.stringify(settings));
    }
    return openTokenizer(model.dir);
  } finally {
    model.remove();
  }
}

const texts = (tokenizer: Tokenizer, { ids, answers }: AnsweredTokens): string[] =>
  answers.map(({ start, end }) => tokenizer.decode(ids.slice(start, end), { skipSpecialTokens: false }));

const user = (content: string): ChatMessage => ({ role: "user", content });
const assistant = (content: string): ChatMessage => ({ role: "assistant", content });
const conversation = [user("one"), assistant("eins"), user("two"), assistant("zwei")];

describe("chatTokens", () => {
  // ids and assistant_masks of transformers 5.23: apply_chat_template(return_assistant_tokens_mask=True) with SmolLM2's template, in
  // which {% generation %} stands around an assistant's content and the <|im_end|> behind it.
  itShared("finds the assistant's turns where transformers' mask has them", () => {
    const tokenizer = openTokenizer(sharedPath("models/SmolLM2-135M-Instruct"));
    const long: ChatMessage[] = [
      { role: "system", content: "Answer briefly." },
      user("Name a colour."),
      assistant("Blue."),
      user("Another?"),
      assistant("Green, or teal.\n\nBoth are fine."),
    ];
    const ids = [
      1, 9690, 198, 21350, 13099, 30, 2, 198, 1, 4093, 198, 5820, 253, 7302, 30, 2, 198, 1, 520, 9531, 198, 23390, 30,
      2, 198, 1, 4093, 198, 4809, 47, 2, 198, 1, 520, 9531, 198, 15420, 28, 355, 543, 272, 30, 198, 198, 12857, 359,
      4979, 30, 2, 198,
    ];
    const answers = [
      { start: 21, end: 24 },
      { start: 36, end: 49 },
    ];
    assertEquals(chatTokens(tokenizer, long, undefined, "a:1"), { ids, answers });
    const unfinished = [user("  Größe?\n\n"), assistant("ü 😀\n- a\n- b\n"), user("ok")];
    assertEquals(chatTokens(tokenizer, unfinished, undefined, "a:2").answers, [{ start: 36, end: 47 }]);
  });

  it("takes every turn of the assistant with the token that ends it, and nothing else", () => {
    const tokenizer = byteTokenizer();
    const chat = chatTokens(tokenizer, conversation, undefined, "a:1");
    assertEquals(texts(tokenizer, chat), ["eins<|end|>", "zwei<|end|>"]);
    assertEquals(chat.ids, tokenizer.encodeChat(conversation, { addGenerationPrompt: false }));
  });

  it("leaves out what a template writes behind the end of a turn", () => {
    const tokenizer = byteTokenizer(
      "{% for m in messages %}{{ '<|start|>' + m.role + ':' + m.content + '<|end|>\\n' }}{% endfor %}" +
        "{% if add_generation_prompt %}{{ '<|start|>assistant:' }}{% endif %}",
    );
    assertEquals(texts(tokenizer, chatTokens(tokenizer, conversation, undefined, "a:1")), [
      "eins<|end|>",
      "zwei<|end|>",
    ]);
  });

  it("ends the last answer itself where the template does not", () => {
    const tokenizer = byteTokenizer(
      "{% for m in messages %}{{ m.role[0] + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}a{% endif %}",
    );
    assertEquals(texts(tokenizer, chatTokens(tokenizer, conversation, undefined, "a:1")), ["eins\n", "zwei\n<|end|>"]);
  });

  it("reads templates that shorten all answers but the last", () => {
    const tokenizer = byteTokenizer(
      "{% for m in messages %}{{ '<|start|>' + m.role + ':' }}{% if m.role == 'assistant' and loop.last %}{{ '(thought)' }}" +
        "{% endif %}{{ m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant:' }}{% endif %}",
    );
    assertEquals(texts(tokenizer, chatTokens(tokenizer, conversation, undefined, "a:1")), [
      "eins<|end|>",
      "(thought)zwei<|end|>",
    ]);
  });

  it("names the row where a template renders what was asked differently afterwards", () => {
    const count = byteTokenizer(
      "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}",
    );
    assertThrows(
      () => chatTokens(count, conversation, undefined, "a.jsonl:3"),
      Error,
      "Cannot use a.jsonl:3: the chat template renders message 1 and the beginning of the answer differently when the rest follows: " +
        "token 0 received 52, expected 49",
    );
    assertThrows(
      () => chatTokens(byteTokenizer(), [user("a"), user("b"), assistant("c")], undefined, "a.jsonl:4"),
      Error,
      "Cannot use a.jsonl:4: Cannot render chat template: Roles must alternate",
    );
  });

  it("passes tools to the template", () => {
    const tokenizer = byteTokenizer(
      "{{ tools | length if tools else 0 }}{% for m in messages %}{{ m.content + '<|end|>' }}{% endfor %}",
    );
    const ids = (tools: unknown): readonly number[] => chatTokens(tokenizer, conversation, tools, "a:1").ids;
    assertEquals([ids([{}, {}])[0], ids(undefined)[0], ids("no list")[0]], [50, 48, 48]);
  });

  it("says what messages it received", () => {
    const refuse = (messages: unknown, expected: string): void => {
      const { message } = assertThrows(() => chatTokens(byteTokenizer(), messages, undefined, "a:5"));
      assertEquals(message, `Cannot use a:5: ${expected}`);
    };
    const expected = 'expected [{"role": "...", "content": "..."}, ...]';
    refuse(undefined, `"messages" received nothing, ${expected}`);
    refuse([], `"messages" received [], ${expected}`);
    refuse([user("a"), { role: "assistant" }], `message 2 received {"role":"assistant"}, ${expected}`);
    refuse([user("a")], "no message is the assistant's, expected at least one");
  });
});

describe("promptTokens", () => {
  it("asks for the answer and the end of the text", () => {
    const tokenizer = byteTokenizer();
    const tokens = promptTokens(tokenizer, "2 + 2 =", " 4");
    assertEquals(texts(tokenizer, tokens), [" 4<|end|>"]);
    assertEquals(tokenizer.decode([...tokens.ids]), "2 + 2 = 4");
  });

  it("ends nothing where the model has no token for it", () => {
    const model = createFakeModel();
    writeFileSync(join(model.dir, "tokenizer_config.json"), "{}");
    writeFileSync(join(model.dir, "config.json"), "{}");
    const tokenizer = openTokenizer(model.dir);
    model.remove();
    assertEquals(texts(tokenizer, promptTokens(tokenizer, "a", "b")), ["b"]);
  });

  itShared("keeps the prompt's tokens where the answer would change them", () => {
    const tokenizer = openTokenizer(sharedPath("models/SmolLM2-135M-Instruct"));
    for (const [prompt, answer] of [
      ["Say unbeliev", "able"],
      ["Answer: ", "yes"],
      ["### Response:\n", "\nA: 4"],
      ["### Response:\n", "\n\nA: 4"],
    ] as const) {
      const asked = tokenizer.encode(prompt);
      const { ids, answers } = promptTokens(tokenizer, prompt, answer);
      assertEquals(ids.slice(0, asked.length), asked);
      assertEquals(answers, [{ start: asked.length, end: ids.length }]);
      assertEquals(tokenizer.decode([...ids]), prompt + answer);
    }
  });
});
