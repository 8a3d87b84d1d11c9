import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openTokenizer } from "../../../runtime/tokenizer/mod.ts";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { itShared, sharedPath } from "../../../tests/shared.ts";
import { type Chat, isHeldOut, JUDGED_PROMPTS } from "../self_chats/held_out.ts";
import { calibrationRows, checkTrainingData, splitForValidation, userTexts } from "./training_data.ts";

const chat = (question: string): Chat => ({
  messages: [
    { role: "user", content: question },
    { role: "assistant", content: "Yes." },
  ],
});

const chats = Array.from({ length: 1000 }, (_, i) => chat(`Question ${i}?`));
const allowed = chats.filter((each) => !userTexts(each).some(isHeldOut));

describe("training data", () => {
  it("keeps some chats to watch training by, the same ones whatever else there is", () => {
    const { training, validation } = splitForValidation(allowed);
    assertEquals(training.length + validation.length, allowed.length);
    assert(validation.length > 5 && validation.length < 40, `${validation.length}`);
    const half = splitForValidation(allowed.slice(0, allowed.length / 2));
    assert(half.validation.every((each) => validation.includes(each)));
  });

  it("watches one of few chats too", () => {
    const few = splitForValidation(allowed).training.slice(0, 5);
    const { training, validation } = splitForValidation(few);
    assertEquals([training.length, validation.length], [4, 1]);
  });

  it("calibrates on chats as the template renders them and on text, in turn", () => {
    const model = createFakeModel();
    const tokenizer = openTokenizer(model.dir);
    model.remove();
    const text = "One line of a text.\n".repeat(4);
    const rows = calibrationRows(tokenizer, chats.slice(0, 3), text) as { text: string }[];
    assertEquals(rows[0]!.text, "<|start|>user\nQuestion 0?<|end|><|start|>assistant\nYes.<|end|>");
    const pieces = rows.map((row) => row.text).filter((each) => !each.startsWith("<|start|>"));
    assertEquals(pieces.join("").trim(), text.trim());
    assert(rows[1]!.text === pieces[0] && pieces[0]!.length >= rows[0]!.text.length);
    // A rendered chat is one with its special tokens.
    assertEquals(
      tokenizer.encode(rows[0]!.text),
      tokenizer.encodeChat(chats[0]!.messages, { addGenerationPrompt: false }),
    );
  });

  it("holds nothing that the model is judged by", () => {
    const dir = mkdtempSync(join(tmpdir(), "apiq-recipe-"));
    const write = (name: string, text: string): string => {
      writeFileSync(join(dir, name), text);
      return join(dir, name);
    };
    const heldOut = chats.find((each) => userTexts(each).some(isHeldOut))!;
    const judged = JUDGED_PROMPTS[0]!;
    const files = (given: object) => ({ chats: [], rows: [], texts: [], ...given });
    const good = write("good.jsonl", `${JSON.stringify(allowed[0])}\n`);
    checkTrainingData(files({ chats: [good], texts: [write("good.txt", "a text")] }), [heldOut]);
    for (const [bad, message] of [
      [{ chats: [write("a.jsonl", `${JSON.stringify(heldOut)}\n`)] }, "the held-out message"],
      [{ chats: [good] }, "the held-out message"],
      [{ rows: [write("b.jsonl", JSON.stringify({ a: { b: [`So: ${judged.toUpperCase()}`] } }))] }, "a judged prompt"],
      [{ rows: [write("c.jsonl", JSON.stringify({ question: userTexts(heldOut)[0] }))] }, "the held-out message"],
      [{ texts: [write("d.txt", `before ${judged} after`)] }, "a judged prompt"],
    ] as const) {
      // What is held out by name counts, whatever its hash says.
      const judgedBy = "chats" in bad && bad.chats[0] === good ? allowed[0]! : heldOut;
      assertThrows(() => checkTrainingData(files(bad), [judgedBy]), Error, message);
    }
    rmSync(dir, { recursive: true });
  });

  itShared("of the shared folder holds none of the judged prompts", () => {
    checkTrainingData(
      {
        chats: [],
        rows: [sharedPath("data/gsm8k/train.jsonl"), sharedPath("data/arithmetic/train.json")],
        texts: [sharedPath("data/wikitext-2/valid.txt")],
      },
      [],
    );
  });
});
