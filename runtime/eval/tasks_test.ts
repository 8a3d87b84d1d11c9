import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { readRows } from "./rows.ts";
import { alpacaPrompt, firstChoice, firstLetter, lastNumber, numberAfterMark, TASKS } from "./tasks.ts";

const row = (fields: Record<string, unknown>) => ({ fields, where: "set.jsonl:7" });

describe("answers in a response", () => {
  it("the last number, with sign and fraction, without commas", () => {
    const cases: readonly (readonly [string, number | null])[] = [
      ["3 + 4 = 7", 7],
      ["The answer is 1,234.50.", 1234.5],
      ["from 5 to -3", -3],
      ["10-4", -4],
      ["The answer is 12.", 12],
      ["none at all", null],
      ["", null],
    ];
    for (const [text, expected] of cases) assertEquals(lastNumber(text), expected, text);
  });

  it("the number after ####", () => {
    const cases: readonly (readonly [string, number | null])[] = [
      ["so 5\n#### 18", 18],
      ["#### $1,200", 1200],
      ["####-7.5 apples", -7.5],
      ["#### -$3", -3],
      ["#### .5", 0.5],
      ["#### 72.", 72],
      ["#### 1 ... #### 2", 1],
      ["#### unknown\n#### 4", 4],
      ["18", null],
      ["### 18", null],
      ["#### ,", null],
    ];
    for (const [text, expected] of cases) assertEquals(numberAfterMark(text), expected, text);
  });

  it("the first capital A to E, wherever it stands", () => {
    assertEquals(firstLetter("the answer is (D), not (B)"), "D");
    assertEquals(firstLetter("Because"), "B");
    assertEquals(firstLetter("f"), null);
  });

  it("the first of the choices", () => {
    const words = ["answer1", "answer2", "answer3"];
    assertEquals(firstChoice("the correct answer is answer3, not answer1", words), "answer3");
    assertEquals(firstChoice("the correct answer is 2", words), null);
  });
});

describe("TASKS", () => {
  it("gsm8k: the number must follow ####; the last number is counted beside", () => {
    const item = TASKS.gsm8k.item(row({ question: "How many?", answer: "2 and 1,000\n#### 1,002" }));
    assertEquals([item.prompt, item.label, item.where], ["Question: How many?\nAnswer:", "1002", "set.jsonl:7"]);
    assertEquals(item.messages, [{ role: "user", content: "How many?" }]);
    assertEquals(item.judge(" It is\n#### 1002"), { prediction: "1002", correct: true, lastNumberCorrect: true });
    assertEquals(item.judge(" It is 1002"), { prediction: null, correct: false, lastNumberCorrect: true });
    assertEquals(item.judge("#### 5"), { prediction: "5", correct: false, lastNumberCorrect: false });
  });

  it("arithmetic: numbers within 0.001, letters exactly", () => {
    const number = TASKS.arithmetic.item(row({ instruction: "How long?", input: "", answer: "1.8333333333333335" }));
    assertEquals(number.prompt, alpacaPrompt("How long?", ""));
    assertEquals(number.judge("3 - 1.1666 = 1.8334").correct, true);
    assertEquals(number.judge("1.835").correct, false);
    assertEquals(number.judge("long"), { prediction: null, correct: false });
    const letter = TASKS.arithmetic.item(row({ instruction: "Which?", answer: "C" }));
    assertEquals(letter.judge("the answer is C."), { prediction: "C", correct: true });
    assertEquals(letter.judge("the answer is A or C"), { prediction: "A", correct: false });
  });

  it("commonsense: the first word of the label's kind", () => {
    const item = TASKS.commonsense.item(row({ instruction: "true or false?", answer: "false" }));
    assertEquals(item.judge("the correct answer is false"), { prediction: "false", correct: true });
    assertEquals(item.judge("it is true that false"), { prediction: "true", correct: false });
    assertEquals(item.judge("answer1"), { prediction: null, correct: false });
    const fifth = TASKS.commonsense.item(row({ instruction: "Which?", answer: "answer5" }));
    assertEquals(fifth.judge("answer5").correct, true);
  });

  it("an input becomes a part of its own in the prompt", () => {
    const prompt = TASKS.commonsense.item(row({ instruction: "Do", input: "This", answer: "option1" })).prompt;
    assertEquals(prompt, alpacaPrompt("Do", "This"));
    assertStringIncludes(prompt, "### Instruction:\nDo\n\n### Input:\nThis\n\n### Response:\n");
    assertEquals(alpacaPrompt("Do", "").includes("Input"), false);
  });

  it("refuse rows of another kind and name file, line and field", () => {
    const refused = [
      ["gsm8k", { question: "?", answer: "18" }, '"answer" received "18", expected a number after ####'],
      ["gsm8k", { answer: "#### 18" }, '"question" received nothing, expected a text'],
      ["arithmetic", { instruction: "?", answer: "F" }, "expected a number or a letter A to E"],
      ["arithmetic", { instruction: 3, answer: "1" }, '"instruction" received 3, expected a text'],
      [
        "commonsense",
        { instruction: "?", answer: "maybe" },
        '"answer" received "maybe", expected one of true, false, answer1',
      ],
    ] as const;
    for (const [task, fields, message] of refused) {
      const error = assertThrows(() => TASKS[task].item(row(fields)), Error, message);
      assertStringIncludes(error.message, "Cannot use set.jsonl:7: ");
    }
  });

  itShared("read every row of the data sets, whose own answers are right where the set's authors' are", () => {
    const sets = [
      ["gsm8k", "gsm8k/test.jsonl", 1319],
      ["arithmetic", "arithmetic/aqua.test.json", 254],
      ["arithmetic", "arithmetic/mawps.test.json", 238],
      ["arithmetic", "arithmetic/svamp.test.json", 1000],
      ["commonsense", "commonsense/arc-challenge.test.json", 1172],
      ["commonsense", "commonsense/boolq.test.json", 3270],
      ["commonsense", "commonsense/piqa.test.json", 1838],
      ["commonsense", "commonsense/social_i_qa.test.json", 1954],
      ["commonsense", "commonsense/winogrande.test.json", 1267],
    ] as const;
    for (const [task, file, count] of sets) {
      const rows = readRows(sharedPath(`data/${file}`));
      const items = rows.map(TASKS[task].item);
      assertEquals(items.length, count, file);
      if (task === "arithmetic") continue;
      const own = rows.map(({ fields }) => String(task === "gsm8k" ? fields.answer : fields.output));
      assertEquals(
        items.filter((item, i) => !item.judge(own[i]).correct).map(({ where }) => where),
        [],
        file,
      );
    }
  });
});
