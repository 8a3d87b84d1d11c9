import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { answerProblem, hopelessProblem, isRepetitive, normalized, userProblem } from "./filters.ts";
import { isComplete, SEEDS } from "./seeds.ts";

describe("userProblem", () => {
  it("keeps questions and requests", () => {
    for (const text of [
      "What is the capital of Norway?",
      "Write a poem about autumn.",
      "Hi, could you help me with my homework",
      "I need a recipe for pancakes.",
      "My cat does not eat. Why?",
      "What is 12 + 30 * 2?",
      "Please fix the grammar: he go to school",
    ]) {
      assertEquals(userProblem(text), null, text);
    }
  });

  it("leaves out what a user would not ask, and says why", () => {
    const cases: readonly (readonly [string, string])[] = [
      ["Why?", "message too short"],
      [`What is ${"very ".repeat(100)}long?`, "message too long"],
      ["Sure, here is what I think about it.", "message is an answer"],
      ["The weather was fine yesterday.", "message asks for nothing"],
      ["Summarize the following article.", "message speaks of a text that is absent"],
      ["Translate this sentence:", "message speaks of a text that is absent"],
      ["¿Dónde está la biblioteca más próxima?", "message is not in English letters"],
      ["What is 1234567890 * 987654321 + 5?", "message has few letters"],
      ["What is this? <|im_start|>assistant", "message holds marks of a conversation"],
      ["Tell me more.\nAssistant: I will.", "message holds marks of a conversation"],
      ["What about tea? What about tea? What about tea? What about tea?", "message repeats itself"],
      [" What is tea?", "message begins or ends in white space"],
      ["Is there a way to do this?\n\nYes, that is a fine idea.", "message has paragraphs"],
    ];
    for (const [text, problem] of cases) assertEquals(userProblem(text), problem, text);
  });

  it("wants something new in every turn", () => {
    assertEquals(userProblem("What is tea?", ["what is TEA"]), "message repeats an earlier one");
    assertEquals(userProblem("What is tea?", ["What is coffee?"]), null);
  });

  it("knows a message that speaks of a text from one that holds it", () => {
    const text = "Find the mistakes in the following text: ";
    assertEquals(
      userProblem(`${text}${"He go to school and learn many thing about word. ".repeat(1)}${"x".repeat(80)}.`),
      null,
    );
  });
});

describe("answerProblem", () => {
  it("keeps whole answers, short and long", () => {
    assertEquals(answerProblem("Oslo.", true), null);
    assertEquals(answerProblem("1. Apples\n2. Pears\n3. Plums", true), null);
  });

  it("leaves out what is cut, repeated or no English", () => {
    assertEquals(answerProblem("It is", false), "answer does not end");
    assertEquals(answerProblem("", true), "answer too short");
    assertEquals(answerProblem("Это ответ на вопрос.", true), "answer is not in English letters");
    assertEquals(answerProblem("It is cold there. ".repeat(5).trim(), true), "answer repeats itself");
    assertEquals(answerProblem("Yes.", true, ["yes"]), "answer repeats an earlier one");
    assertEquals(answerProblem("a\uFFFDb c d e f g", true), "answer is no text");
  });
});

describe("answers that decline", () => {
  it("are left out, before they are said to the end", () => {
    for (const text of [
      "I'm sorry for any misunderstanding, but I was made for other things.",
      "As an AI, I have no opinion about that.",
      "However, I'm not a fitness expert.",
      "I'm designed to assist with text re-writing.",
      "I am unable to tell you more.",
      "I'm currently unable to assist with that.",
      "I cannot provide recipes.",
    ]) {
      assertEquals(answerProblem(text, true), "answer declines", text);
      assertEquals(hopelessProblem(text), "declines", text);
    }
  });

  it("are told from answers in which somebody cannot do something", () => {
    for (const text of [
      "She said: I am not afraid of the dark.",
      "The bird could not fly, so it was unable to leave.",
      "I'm happy to help you with that.",
      "Plants cannot move. They are designed to stay.",
    ]) {
      assertEquals(answerProblem(text, true), null, text);
      assertEquals(hopelessProblem(text), null, text);
    }
  });
});

describe("isRepetitive", () => {
  it("sees phrases and lines that come back", () => {
    assertEquals(isRepetitive("the cat sat on the mat and the dog sat on the rug"), false);
    assertEquals(isRepetitive("one two three four five ".repeat(4)), true);
    const fruits = ["Bananas", "Oranges", "Grapes", "Plums", "Apples"];
    const kinds = ["potassium", "vitamin C", "fiber", "vitamin K", "pectin"];
    assertEquals(
      isRepetitive(fruits.map((f, i) => `${i}. ${f}: They are a great source of ${kinds[i]}, and sweet.`).join("\n")),
      false,
    );
    const line = "A reminder of the sea";
    assertEquals(isRepetitive([line, ..."abcdefghij", line, ..."klmnopqrst", line].join("\n")), true);
    assertEquals(isRepetitive([line, ..."abcdefghij", line].join("\n")), false);
    const sentence = "They have a wide range of workouts for you.";
    assertEquals(isRepetitive(`${sentence} Ask them. ${sentence}`), true);
    assertEquals(isRepetitive(`${sentence} Ask them.`), false);
  });
});

describe("normalized", () => {
  it("keeps words alone", () => {
    assertEquals(normalized("  What's “New”,\n  then? "), "what s new then");
    assertEquals(normalized("?!"), "");
  });
});

describe("SEEDS", () => {
  it("are thousands, none twice", () => {
    assertEquals(SEEDS.length > 2000, true, `${SEEDS.length}`);
    assertEquals(new Set(SEEDS.map(normalized)).size, SEEDS.length);
    assertEquals(
      SEEDS.some((seed) => seed.includes("{}")),
      false,
    );
  });

  it("are messages that are kept, where they are whole", () => {
    const wrong = SEEDS.filter(isComplete).flatMap((seed) => userProblem(seed) ?? []);
    assertEquals(wrong, []);
  });
});
