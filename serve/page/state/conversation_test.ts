import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Message, requestMessages, titleOf } from "./conversation.ts";

const said = (content: string): Message => ({ id: "", role: "user", content });
const answered = (content: string): Message => ({ id: "", role: "assistant", content, model: "m", end: "failed" });

describe("what is sent of a conversation", () => {
  it("alternates its roles, whatever became of the answers", () => {
    const messages = [said("a"), answered(""), said("b"), answered("c"), said("d")];
    assertEquals(requestMessages({ system: " ", messages }), [
      { role: "user", content: "a\n\nb" },
      { role: "assistant", content: "c" },
      { role: "user", content: "d" },
    ]);
  });

  it("begins with the system prompt, if there is one", () => {
    assertEquals(requestMessages({ system: "Be brief.", messages: [said("a")] })[0], {
      role: "system",
      content: "Be brief.",
    });
  });
});

describe("a conversation's title", () => {
  it("is the beginning of its first message, on one line", () => {
    assertEquals(titleOf([said("  one\n two  ")]), "one two");
    assertEquals(titleOf([said(`${"word ".repeat(20)}`)]).length, 60);
    assertEquals(titleOf([]), "");
  });
});
