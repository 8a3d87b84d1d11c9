import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { alpacaPrompt } from "../../eval/tasks.ts";
import { inFolder } from "../../formats/test_files.ts";
import { openTokenizer } from "../../tokenizer/mod.ts";
import { readDataset } from "./dataset.ts";
import type { Dataset, DatasetOptions, Example } from "./example.ts";

const model = createFakeModel();
/** Its tokens are bytes; the end of a text reads <|end|>. */
const tokenizer = openTokenizer(model.dir);
model.remove();

interface File {
  readonly name: string;
  readonly content: string | Uint8Array;
}

/** Runs `body` with a function that reads the file. */
async function withData(file: File, body: (read: (given?: Partial<DatasetOptions>) => Dataset) => void): Promise<void> {
  await inFolder((dir) => {
    const path = join(dir, file.name);
    writeFileSync(path, file.content);
    body((given = {}) =>
      readDataset({
        file: path,
        format: "auto",
        tokenizer,
        maxLength: 1000,
        promptLoss: false,
        onBadRow: "fail",
        tooLong: "truncate",
        template: "task",
        ...given,
      }),
    );
  });
}

const lines = (...rows: readonly unknown[]): File => ({
  name: "set.jsonl",
  content: rows.map((row) => `${JSON.stringify(row)}\n`).join(""),
});

const decode = (ids: Iterable<number>): string => tokenizer.decode([...ids], { skipSpecialTokens: false });
const textOf = ({ ids }: Example): string => decode(ids);
const wantedOf = ({ ids, wanted }: Example): string => decode(ids.filter((_, i) => wanted[i] === 1));
/** FILE:LINE without the folder. */
const placeOf = (where: string): string => where.slice(where.lastIndexOf("/") + 1);

const chat = {
  messages: [
    { role: "user", content: "hi" },
    { role: "assistant", content: "hello" },
    { role: "user", content: "bye" },
  ],
};

describe("readDataset", () => {
  it("renders chats through the model's template", () =>
    withData(lines(chat), (read) => {
      const { format, examples } = read();
      assertEquals(format, "chat");
      // Nothing is learned from what follows the last answer.
      assertEquals(examples.map(textOf), ["<|start|>user\nhi<|end|><|start|>assistant\nhello<|end|>"]);
      assertEquals(examples.map(wantedOf), ["hello<|end|>"]);
    }));

  it("asks instructions in Alpaca's prompt, with and without input, as eval does", () =>
    withData(
      lines(
        { instruction: "Add.", input: "1 2", output: "3" },
        { instruction: "Say hi.", input: "", output: "hi" },
        { instruction: "Say ho.", output: "ho" },
      ),
      (read) => {
        const { format, examples } = read();
        assertEquals(format, "instruction");
        assertEquals(examples.map(textOf), [
          `${alpacaPrompt("Add.", "1 2")}3<|end|>`,
          `${alpacaPrompt("Say hi.", "")}hi<|end|>`,
          `${alpacaPrompt("Say ho.", "")}ho<|end|>`,
        ]);
        assertEquals(examples.map(wantedOf), ["3<|end|>", "hi<|end|>", "ho<|end|>"]);
        assertEquals(
          read({ template: "chat" }).examples.map(textOf)[0],
          "<|start|>user\nAdd.\n\n1 2<|end|><|start|>assistant\n3<|end|>",
        );
      },
    ));

  it("asks questions as eval's gsm8k does", () =>
    withData(lines({ question: "1 + 1?", answer: "It is 2\n#### 2" }), (read) => {
      const { format, examples } = read();
      assertEquals([format, textOf(examples[0]!)], ["gsm8k", "Question: 1 + 1?\nAnswer: It is 2\n#### 2<|end|>"]);
      assertEquals(wantedOf(examples[0]!), " It is 2\n#### 2<|end|>");
      const [asked] = read({ template: "chat" }).examples;
      assertEquals(textOf(asked!), "<|start|>user\n1 + 1?<|end|><|start|>assistant\nIt is 2\n#### 2<|end|>");
      assertEquals(wantedOf(asked!), "It is 2\n#### 2<|end|>");
    }));

  it("wants prompts too where asked, but for the first token", () =>
    withData(lines({ question: "1 + 1?", answer: "2" }), (read) => {
      const [example] = read({ promptLoss: true }).examples;
      assertEquals(wantedOf(example!), "uestion: 1 + 1?\nAnswer: 2<|end|>");
      assertEquals(textOf(example!), textOf(read().examples[0]!));
    }));

  it("cuts a text into blocks that hold every token once", () =>
    withData({ name: "a.txt", content: "abcdefghijk\n" }, (read) => {
      const { format, examples } = read({ maxLength: 5 });
      assertEquals(format, "text");
      assertEquals(examples.map(textOf), ["abcde", "fghij", "k\n"]);
      assertEquals(examples.map(wantedOf), ["bcde", "ghij", "\n"]);
      assertEquals(
        examples.map(({ where }) => placeOf(where)),
        ["a.txt, block 1", "a.txt, block 2", "a.txt, block 3"],
      );
      // One token alone: there is nothing in it to predict.
      assertEquals(read({ maxLength: 11 }).examples.map(textOf), ["abcdefghijk"]);
    }));

  it("ends documents, and begins a block with each", () =>
    withData(lines({ text: "abcdef" }, { text: "gh" }), (read) => {
      const { format, examples } = read({ maxLength: 5 });
      assertEquals(format, "text");
      assertEquals(examples.map(textOf), ["abcde", "f<|end|>", "gh<|end|>"]);
      assertEquals(
        examples.map(({ where }) => placeOf(where)),
        ["set.jsonl:1, block 1", "set.jsonl:1, block 2", "set.jsonl:2"],
      );
    }));

  it("takes a file for JSON by how it begins or by its name, and otherwise for text", async () => {
    const row = '{"text": "one"}';
    for (const content of [row, `[${row}]`, ` \n [ \n ${row}\n]`, `\uFEFF${row}`]) {
      await withData({ name: "a.txt", content }, (read) => assertEquals(read().examples.map(textOf), ["one<|end|>"]));
    }
    for (const content of ["[1] one", "one", '"one"', " {one}"]) {
      const isText = content.trim()[0] !== "{";
      await withData({ name: "a.txt", content }, (read) => {
        if (isText) assertEquals(read().examples.map(textOf), [content]);
        else assertThrows(() => read(), Error, "a.txt:1: ");
      });
    }
    await withData({ name: "a.json", content: "one" }, (read) => assertThrows(() => read(), Error, "a.json:1: "));
  });

  it("does not mind a byte-order mark or CRLF", async () => {
    const rows = (end: string): string => ['{"text": "a\\r\\nb"}', "", '{"text": "c"}', ""].join(end);
    await withData({ name: "a.jsonl", content: `\uFEFF${rows("\r\n")}` }, (read) => {
      const { examples } = read();
      assertEquals(examples.map(textOf), ["a\r\nb<|end|>", "c<|end|>"]);
      assertEquals(
        examples.map(({ where }) => placeOf(where)),
        ["a.jsonl:1", "a.jsonl:3"],
      );
    });
    await withData({ name: "a.txt", content: "\uFEFFone\r\ntwo" }, (read) => {
      assertEquals(read().examples.map(textOf), ["one\ntwo"]);
    });
  });

  it("cuts the end off long examples, or leaves them out, and counts them", () =>
    withData(
      lines(
        { question: "?", answer: "1234567890" },
        { question: "?", answer: "12" },
        { question: "?".repeat(40), answer: "1" },
      ),
      (read) => {
        const { length } = "Question: ?\nAnswer: 12#";
        const cut = read({ maxLength: length });
        // The third has no answer left.
        assertEquals(cut.examples.map(wantedOf), [" 123", " 12<|end|>"]);
        assertEquals([cut.truncated, cut.dropped], [1, 1]);
        const left = read({ maxLength: length, tooLong: "drop" });
        assertEquals(left.examples.map(wantedOf), [" 12<|end|>"]);
        assertEquals([left.truncated, left.dropped], [0, 2]);
        assertThrows(() => read({ maxLength: 5 }), Error, "set.jsonl: all 3 examples are longer than 5 tokens");
      },
    ));

  it("cuts a conversation behind the last answer that is left", () => {
    const twice = { messages: [...chat.messages, { role: "assistant", content: "farewell" }] };
    return withData(lines(twice), (read) => {
      const { length } = tokenizer.encodeChat(chat.messages, { addGenerationPrompt: true });
      const { examples, truncated } = read({ maxLength: length });
      assertEquals([examples.map(wantedOf), truncated], [["hello<|end|>"], 1]);
      assertEquals(examples.map(textOf), ["<|start|>user\nhi<|end|><|start|>assistant\nhello<|end|>"]);
      assertEquals(read({ maxLength: length + 4 }).examples.map(wantedOf), ["hello<|end|>fare"]);
    });
  });

  it("lists rows that it cannot use, by line, with what it received and expected", () => {
    const good = '{"question": "?", "answer": "1"}';
    const content = [
      good,
      '{"question": "?"}',
      '{"question": "?", "answer": ',
      "7",
      JSON.stringify(chat),
      '{"prompt": "?"}',
      good,
      '{"question": "?", "answer": 5}',
    ].join("\n");
    return withData({ name: "set.jsonl", content }, (read) => {
      const { examples, skipped, format } = read({ onBadRow: "skip" });
      assertEquals([format, examples.length], ["gsm8k", 2]);
      assertEquals(
        skipped.map(({ where }) => placeOf(where)),
        [2, 3, 4, 5, 6, 8].map((line) => `set.jsonl:${line}`),
      );
      const reasons = skipped.map(({ reason }) => reason);
      for (const { where, reason } of skipped) assert(reason.includes(where), reason);
      const expected = [
        '"answer" received nothing, expected a text',
        "Cannot read",
        "received number, expected a JSON object",
        'received an object with messages, expected {"question": "...", "answer": "..."} (gsm8k, the file\'s format)',
        'received an object with prompt, expected {"messages": [',
        '"answer" received 5, expected a text',
      ];
      for (const [i, part] of expected.entries()) assert(reasons[i]!.includes(part), reasons[i]);
      assertThrows(() => read(), Error, 'set.jsonl:2: "answer" received nothing');
    });
  });

  it("goes by the first row that is an object", () =>
    withData({ name: "a.jsonl", content: '{"question\n{"text": "a"}' }, (read) => {
      const { format, skipped } = read({ onBadRow: "skip" });
      assertEquals([format, skipped.length], ["text", 1]);
    }));

  it("holds every row to the format that is asked for", () =>
    withData(lines({ text: "a" }), (read) => {
      assertThrows(() => read({ format: "chat" }), Error, 'received an object with text, expected {"messages": [');
      assertEquals(read({ format: "text" }).examples.length, 1);
    }));

  it("refuses a file without examples", async () => {
    for (const [name, content, expected] of [
      ["a.txt", "", "a.txt: received no text"],
      ["a.jsonl", "\n \n", "a.jsonl: received no text"],
      ["a.json", "[]", "a.json: received no text"],
      ["a.jsonl", '{"text": ""}', "none of its 1 rows can be used; the first: Cannot use"],
    ] as const) {
      await withData({ name, content }, (read) => assertThrows(() => read({ onBadRow: "skip" }), Error, expected));
    }
    await inFolder((dir) =>
      withData(lines({ text: "a" }), (read) => {
        const file = join(dir, "absent.jsonl");
        assertThrows(() => read({ file }), Error, `Cannot read ${file}: it does not exist`);
      }),
    );
  });

  it("refuses tokens that the model does not have", () =>
    withData(lines({ text: "a" }), (read) => {
      assertThrows(() => read({ vocabSize: 257 }), Error, "the tokenizer gave token 257, expected ids below 257");
      assertEquals(read({ vocabSize: 258 }).examples.length, 1);
    }));

  it("tells apart what differs, and nothing else, by its hash", async () => {
    const hash = async (file: File, given?: Partial<DatasetOptions>): Promise<string> => {
      let found = "";
      await withData(file, (read) => {
        found = read(given).sha256;
      });
      return found;
    };
    const rows = lines({ text: "ab" }, { text: "c" });
    assertEquals(await hash(rows), await hash({ name: "b.json", content: '[{"text":"ab"}, {"text":"c"}]' }));
    const hashes = [
      await hash(rows),
      await hash(lines({ text: "c" }, { text: "ab" })),
      await hash(rows, { maxLength: 2 }),
    ];
    assertEquals(new Set(hashes).size, 3);
    const question = lines({ question: "1", answer: "2" });
    assert((await hash(question)) !== (await hash(question, { promptLoss: true })));
  });

  it("tells how far it is", () =>
    withData(lines(...Array.from({ length: 200 }, () => ({ text: "a" }))), (read) => {
      const rows: number[] = [];
      read({ progress: (done) => rows.push(done) });
      assertEquals(rows, [64, 128, 192]);
    }));
});
