import { readFileSync } from "node:fs";
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { itShared, sharedPath } from "../../../tests/shared.ts";
import { CHECKS } from "./candidate.ts";
import { type Chat, hashPlace, holdsJudgedPrompt, isHeldOut, JUDGED_PROMPTS, splitChats } from "./held_out.ts";

const chat = (...users: readonly string[]): Chat => ({
  messages: users.flatMap((content) => [
    { role: "user", content },
    { role: "assistant", content: "Yes." },
  ]),
});

const chats = Array.from({ length: 2000 }, (_, i) => chat(`Question ${i}?`, ...(i % 3 === 0 ? [`More ${i}?`] : [])));
const users = ({ messages }: Chat): string[] => messages.filter((m) => m.role === "user").map((m) => String(m.content));

describe("judged prompts", () => {
  itShared("are those of the golden file", () => {
    const golden = JSON.parse(readFileSync(sharedPath("golden/smollm2.json"), "utf8")) as {
      chats: { prompt: string }[];
    };
    assertEquals(
      golden.chats.map(({ prompt }) => prompt),
      [...JUDGED_PROMPTS],
    );
  });

  it("are found in any case, with any marks, in whatever stands around them", () => {
    assert(holdsJudgedPrompt("so, what is the capital of  FRANCE"));
    assert(holdsJudgedPrompt("Please do this: “List three prime numbers!” Thank you."));
    for (const other of [
      "What is the capital of Francestan?",
      "What is the capital of Spain?",
      "List three numbers.",
    ]) {
      assertEquals(holdsJudgedPrompt(other), false, other);
    }
  });

  it("are kept out of conversations, and of what is trained on", () => {
    for (const prompt of JUDGED_PROMPTS) {
      assertEquals(CHECKS.user(prompt, []), "message is a judged prompt");
      assertEquals(CHECKS.answer(`You could ask: ${prompt}`, true, []), "answer holds a judged prompt");
      const said: Chat = { messages: [...chat("Question 1?").messages, { role: "assistant", content: prompt }] };
      const { training, heldOut } = splitChats([chat(prompt), chat("Question 1?", prompt), said], 200);
      assertEquals([training, heldOut], [[], []]);
    }
  });
});

describe("splitChats", () => {
  it("trains on no held-out message, and holds out as many as asked", () => {
    const { training, heldOut } = splitChats(chats, 100);
    assertEquals(heldOut.length, 100);
    for (const c of training) assertEquals(users(c).filter(isHeldOut), []);
    for (const c of heldOut) assert(users(c).some(isHeldOut));
    assert(training.length > 0.8 * chats.length, `${training.length}`);
  });

  it("holds out a conversation whatever else there is, and in whatever order", () => {
    const whole = splitChats(chats, 1e9);
    const half = splitChats(chats.toReversed().slice(1000), 1e9);
    const kept = new Set(whole.heldOut);
    for (const c of half.heldOut) assert(kept.has(c));
    assertEquals(new Set(splitChats(chats.toReversed(), 50).heldOut), new Set(splitChats(chats, 50).heldOut));
  });

  it("trains on no message of a held-out conversation, whatever the message's own hash says", () => {
    const held = chats.find((c) => users(c).length === 1 && users(c).some(isHeldOut))!;
    const free = chats.filter((c) => users(c).length === 1 && !users(c).some(isHeldOut)).map((c) => users(c)[0]!);
    const judged = chat(users(held)[0]!, free[0]!);
    const shared = [chat(free[1]!, free[0]!.toUpperCase()), { messages: [{ role: "assistant", content: free[0]! }] }];
    const other = chat(free[1]!, free[2]!);
    assertEquals(splitChats([...shared, judged, other], 1), { training: [other], heldOut: [judged] });
    // What is in neither part keeps nothing out.
    assertEquals(splitChats([...shared, judged, other], 0), { training: [...shared, other], heldOut: [] });
  });

  it("goes by the words alone", () => {
    assertEquals(hashPlace("What is tea?"), hashPlace("what is  TEA"));
    assert(hashPlace("What is tea?") !== hashPlace("What is coffee?"));
  });
});
