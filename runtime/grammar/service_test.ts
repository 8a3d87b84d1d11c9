import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import { createFakeModel, MESSAGE_END } from "../../tests/http/fake_model.ts";
import { GrammarError, GrammarService, type GrammarSpec } from "./mod.ts";
import { allowedTokens } from "./test_walk.ts";

const VOCAB = 258;
const WORDS = Math.ceil(VOCAB / 32);
const JSON_OBJECT: GrammarSpec = { type: "json_object" };

/** Too slow for any limit here: 4,500 properties, each of which may be left out. */
const HOSTILE: GrammarSpec = {
  type: "json_schema",
  strict: true,
  schema: JSON.stringify({
    type: "object",
    properties: Object.fromEntries(Array.from({ length: 4500 }, (_, i) => [`p${i}`, { type: "null" }])),
  }),
};

function childProcesses(): number[] {
  const tasks = readdirSync("/proc/self/task");
  return tasks.flatMap((task) => {
    let children = "";
    try {
      children = readFileSync(`/proc/self/task/${task}/children`, "utf8");
    } catch {
      // The thread has ended since the folder was read.
    }
    return children.split(" ").filter(Boolean).map(Number);
  });
}

describe("GrammarService", () => {
  let model: ReturnType<typeof createFakeModel>;
  let service: GrammarService | undefined;

  beforeAll(() => {
    model = createFakeModel();
  });
  afterAll(() => model.remove());
  afterEach(() => {
    service?.[Symbol.dispose]();
    service = undefined;
  });

  function open(compileMs = 20_000): GrammarService {
    const options = { model: model.dir, vocabSize: VOCAB, rows: 4, limits: { compileMs, maskMs: 20_000 } };
    service = new GrammarService(options);
    return service;
  }

  function allowed(row: number): number[] {
    return allowedTokens(Int32Array.from(service!.masks.subarray(row * WORDS, (row + 1) * WORDS)));
  }

  it("computes the masks of several sequences while the thread is blocked", async () => {
    const grammars = open();
    await Promise.all([
      grammars.start("a", JSON_OBJECT),
      grammars.start("b", { type: "ebnf", grammar: 'root ::= "no" | "ok"' }),
    ]);
    grammars.request([
      { row: 0, id: "a", accepted: [] },
      { row: 3, id: "b", accepted: [] },
    ]);
    assertEquals(grammars.collect().size, 0);
    assertEquals([allowed(0), allowed(3)], [[0x7b], [0x6e, 0x6f]]);
    // Rows are the step's, not the sequence's; a step may bring several tokens.
    grammars.request([{ row: 1, id: "b", accepted: [0x6e, 0x6f] }]);
    assertEquals(grammars.collect().size, 0);
    assertEquals(allowed(1), [MESSAGE_END]);
    assertEquals(grammars.collect().size, 0);
  });

  it("reports a failure for its sequence alone", async () => {
    const grammars = open();
    await grammars.start("a", JSON_OBJECT);
    grammars.request([
      { row: 0, id: "a", accepted: [] },
      { row: 1, id: "nobody", accepted: [] },
    ]);
    const failures = grammars.collect();
    assertEquals([...failures.keys()], ["nobody"]);
    assertStringIncludes(failures.get("nobody")!, "no grammar");
    grammars.request([{ row: 0, id: "a", accepted: [0x61] }]);
    assertStringIncludes(grammars.collect().get("a")!, "not allowed by the grammar");
  });

  it("rejects a description at fault, with the reason", async () => {
    const grammars = open();
    const spec: GrammarSpec = { type: "json_schema", schema: '{"type":"text"}', strict: true };
    const error = await assertRejects(() => grammars.start("a", spec), GrammarError);
    assertStringIncludes(error.message, 'type is "text"');
    await grammars.start("a", JSON_OBJECT);
    const twice = grammars.start("b", JSON_OBJECT);
    await assertRejects(() => grammars.start("b", JSON_OBJECT), GrammarError);
    await twice;
  });

  it("ends a description that takes too long, while others go on", async () => {
    const grammars = open(2_000);
    await grammars.start("a", JSON_OBJECT);
    let steps = 0;
    const hostile = grammars.start("hostile", HOSTILE).then(
      () => undefined,
      (error: Error) => error,
    );
    for (let over = false; !over; ) {
      grammars.request([{ row: 0, id: "a", accepted: steps === 0 ? [0x7b] : [0x20] }]);
      assertEquals(grammars.collect().size, 0);
      steps++;
      over = await Promise.race([hostile.then(() => true), sleep(50).then(() => false)]);
    }
    assertStringIncludes((await hostile)!.message, "compiling the grammar took more than 2 s");
    assert(steps > 5, `${steps} steps`);
    // The process that compiled it is gone; the next one compiles the next.
    await grammars.start("c", { type: "ebnf", grammar: 'root ::= "c"' });
  });

  it("gives up on a sequence that finishes while its grammar is compiled", async () => {
    const grammars = open();
    const started = grammars.start("a", JSON_OBJECT);
    grammars.finish("a");
    await assertRejects(() => started, GrammarError, "withdrawn");
  });

  it("fails the sequences of a process that died, and starts another", async () => {
    const grammars = open();
    const before = new Set(childProcesses());
    await grammars.start("a", JSON_OBJECT);
    for (const pid of childProcesses().filter((pid) => !before.has(pid))) process.kill(pid, "SIGKILL");
    grammars.request([{ row: 0, id: "a", accepted: [] }]);
    assertStringIncludes(grammars.collect().get("a") ?? "", "its process");
    grammars.finish("a");
    await grammars.start("b", JSON_OBJECT);
    grammars.request([{ row: 0, id: "b", accepted: [] }]);
    assertEquals(grammars.collect().size, 0);
    assertEquals(allowed(0), [0x7b]);
  });

  it("leaves no process behind", async () => {
    const before = childProcesses().length;
    const grammars = open();
    await grammars.start("a", JSON_OBJECT);
    assert(childProcesses().length > before);
    grammars[Symbol.dispose]();
    while (childProcesses().length > before) await sleep(20);
  });
});
