import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { OutputQueue } from "./client_queue.ts";

describe("OutputQueue", () => {
  it("hands outputs to a waiting reader and merges those it is late for", async () => {
    const queue = new OutputQueue();
    const first = queue.next();
    queue.push({ id: "a", tokens: [1], sharedTokens: 3, queueSeconds: 0.5 });
    assertEquals(await first, { id: "a", tokens: [1], sharedTokens: 3, queueSeconds: 0.5 });
    const logprob = (token: number) => ({ token, logprob: -1, top: [] });
    queue.push({ id: "a", tokens: [2], logprobs: [logprob(2)] });
    queue.push({ id: "a", tokens: [3], logprobs: [logprob(3)], finish: "length" });
    assertEquals(await queue.next(), {
      id: "a",
      tokens: [2, 3],
      logprobs: [logprob(2), logprob(3)],
      finish: "length",
    });
  });

  it("gives what has arrived before an error, and nothing after the end", async () => {
    const failing = new OutputQueue();
    failing.push({ id: "a", tokens: [1] });
    failing.fail(new Error("gone"));
    assertEquals((await failing.next())?.tokens, [1]);
    await assertRejects(() => failing.next(), Error, "gone");

    const ending = new OutputQueue();
    const waiting = ending.next();
    ending.push({ id: "a", tokens: [1] });
    ending.end();
    await waiting;
    assertEquals(await ending.next(), undefined);
  });
});
