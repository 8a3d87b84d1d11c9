import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { TokenSource } from "../../../runtime/chat/generate.ts";
import { EngineClient } from "../../../runtime/engine/client.ts";
import type { EngineRequest } from "../../../runtime/engine/protocol.ts";
import { inFolder } from "../../../runtime/formats/test_files.ts";
import { openTokenizer } from "../../../runtime/tokenizer/mod.ts";
import { createTinyModel } from "../../../tests/fixtures/tiny_model.ts";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { type Candidate, type CandidateMaker, type CandidateSettings, CHECKS, type Checks } from "./candidate.ts";
import { CandidateLog } from "./candidate_log.ts";
import { type GenerationOptions, generateChats } from "./generate_chats.ts";
import { isComplete, SEEDS } from "./seeds.ts";

const SETTINGS: CandidateSettings = {
  seed: 1,
  seeded: 0.5,
  temperature: 1,
  topP: 0.95,
  answerTemperature: 0,
  maxMessage: 24,
  maxAnswer: 24,
  contextLength: 1024,
};

const fake = createFakeModel();
const tokenizer = openTokenizer(fake.dir);
fake.remove();
const encode = (text: string): number[] => tokenizer.encode(text);
const decode = (ids: readonly number[]): string => tokenizer.decode([...ids], { skipSpecialTokens: false });

/** A model that says what `reply` gives to the text so far, after a wait that has nothing to do with it. */
function scripted(reply: (prompt: string, request: EngineRequest) => string): TokenSource {
  let waits = 0;
  return {
    async *generate(request, signal) {
      await new Promise((resolve) => setTimeout(resolve, (waits++ * 7) % 5));
      if (signal?.aborted) return;
      const tokens = encode(reply(decode(request.prompt), request));
      yield { id: request.id, tokens: [...tokens, tokenizer.stopTokens[0]!], finish: "stop" };
    },
  };
}

/** Users ask what their seed says or about a number; the assistant answers with what was asked. */
const talkative = scripted((prompt, { sampling }) => {
  const [, said] = /.*<\|start\|>user\n(.*)$/s.exec(prompt)!;
  if (said!.includes("<|end|>"))
    return `You asked: ${said!.slice(0, said!.indexOf("<|end|>"))} That is a long story indeed.`;
  return said === "" ? `What is special about number ${sampling.seed % 50n}?` : " these two things?";
});

const maker = (engine: TokenSource, given: Partial<CandidateMaker> = {}): CandidateMaker => ({
  engine,
  tokenizer,
  settings: SETTINGS,
  checks: CHECKS,
  ...given,
});

async function generate(given: Partial<GenerationOptions> & Pick<GenerationOptions, "maker">) {
  const candidates: Candidate[] = [...(given.earlier ?? [])];
  const result = await generateChats({
    count: 40,
    most: 400,
    concurrency: 8,
    earlier: [],
    signal: new AbortController().signal,
    take: (candidate) => candidates.push(candidate),
    ...given,
  });
  return { ...result, candidates };
}

const ANYTHING: Checks = { user: () => null, answer: () => null, hopeless: () => null };

describe("generateChats", () => {
  it("makes the same conversations however many are made at a time", async () => {
    const one = await generate({ maker: maker(talkative), concurrency: 1 });
    const many = await generate({ maker: maker(talkative), concurrency: 17 });
    assertEquals(many.candidates, one.candidates);
    assertEquals(one.kept, 40);
    assertEquals(
      one.candidates.map(({ candidate }) => candidate),
      one.candidates.map((_, i) => i),
    );
  });

  it("goes on where an earlier run stopped", async () => {
    const whole = await generate({ maker: maker(talkative) });
    for (const begun of [1, 13, whole.candidates.length]) {
      const rest = await generate({ maker: maker(talkative), earlier: whole.candidates.slice(0, begun) });
      assertEquals(rest.candidates, whole.candidates);
      assertEquals([rest.kept, rest.tried, rest.rejected], [whole.kept, whole.tried, whole.rejected]);
    }
  });

  it("keeps no first message twice", async () => {
    const { candidates, rejected } = await generate({ maker: maker(talkative) });
    const first = candidates.flatMap((c) => ("messages" in c ? [String(c.messages[0]!.content)] : []));
    assertEquals(new Set(first).size, first.length);
    assert(rejected.get("message is known")! > 0);
  });

  it("begins with seeds, whole ones as they are, and goes on for up to three turns", async () => {
    const { candidates } = await generate({ maker: maker(talkative), count: 100 });
    const kept = candidates.flatMap((c) => ("messages" in c ? [c.messages] : []));
    const first = kept.map(([message]) => String(message!.content));
    const seeded = first.filter((text) => SEEDS.some((seed) => text.startsWith(seed)));
    assert(seeded.length > 30 && seeded.length < 95, `${seeded.length} seeded`);
    for (const text of seeded)
      assert(text.endsWith(" these two things?") || (SEEDS.includes(text) && isComplete(text)), text);
    assertEquals([...new Set(kept.map(({ length }) => length))].sort(), [2, 4, 6]);
    for (const messages of kept) {
      for (const [i, { role }] of messages.entries()) assertEquals(role, i % 2 === 0 ? "user" : "assistant");
    }
  });

  it("samples what users say, and answers as it is told", async () => {
    const seen = { user: new Set<number>(), assistant: new Set<number>() };
    const engine = scripted((prompt, { sampling }) => {
      seen[prompt.endsWith("<|start|>assistant\n") ? "assistant" : "user"].add(sampling.temperature);
      return "What is it?";
    });
    const settings = { ...SETTINGS, temperature: 0.9, answerTemperature: 0.2 };
    await generate({ maker: maker(engine, { settings, checks: ANYTHING }), count: 5, most: 10 });
    assertEquals([[...seen.user], [...seen.assistant]], [[0.9], [0.2]]);
  });

  it("stops after the most candidates that are allowed, and says why they are left out", async () => {
    const silent = await generate({ maker: maker(scripted(() => "!")), most: 30 });
    assertEquals([silent.kept, silent.tried], [0, 30]);
    assertEquals(
      [...silent.rejected.values()].reduce((a, b) => a + b),
      30,
    );
  });

  it("ends within a step when it is stopped, and fails when the engine does", async () => {
    const stopped = new AbortController();
    const result = await generate({
      maker: maker(talkative),
      signal: stopped.signal,
      take: (_, { tried }) => tried === 5 && stopped.abort(),
    });
    assertEquals(result.tried, 5);
    const broken: TokenSource = {
      // biome-ignore lint/correctness/useYield: it fails before it has anything to give
      async *generate() {
        throw new Error("the engine is gone");
      },
    };
    const error = await generate({ maker: maker(broken) }).catch((error: Error) => error);
    assert(error instanceof Error && error.message === "the engine is gone");
  });

  it("gives a known first message as the reason, whether it was known before the answer or after", async () => {
    const engine = scripted((prompt) => (prompt.endsWith("assistant\n") ? "!" : "What is it?"));
    const checks: Checks = {
      ...CHECKS,
      answer: (text, _, earlier) => (earlier.length > 0 || text === "!" ? "bad" : null),
    };
    const settings = { ...SETTINGS, seeded: 0 };
    const bad = await generate({ maker: maker(engine, { checks, settings }), most: 9 });
    assertEquals([...bad.rejected], [["bad", 9]]);
    const kept: Candidate = {
      candidate: 0,
      messages: [
        { role: "user", content: "What is it?" },
        { role: "assistant", content: "Tea." },
      ],
    };
    const known = await generate({ maker: maker(engine, { checks, settings }), most: 9, earlier: [kept] });
    assertEquals([...known.rejected], [["message is known", 8]]);
  });

  it("refuses a context that no turn fits into", async () => {
    const settings = { ...SETTINGS, contextLength: 80 };
    const error = await generate({ maker: maker(talkative, { settings }) }).catch((error: Error) => error);
    assert(
      error instanceof Error && error.message.includes("a turn does not fit into a context of 80 tokens"),
      `${error}`,
    );
  });

  it("gives up what repeats itself before it ends, in whatever pieces it arrives", async () => {
    const tokens = encode("again and again and ".repeat(20));
    const rejected = async (piece: number): Promise<readonly [string, number][]> => {
      const engine: TokenSource = {
        async *generate({ id }) {
          for (let i = 0; i < tokens.length; i += piece) yield { id, tokens: tokens.slice(i, i + piece) };
          throw new Error("it was read to the end");
        },
      };
      return [...(await generate({ maker: maker(engine), most: 20 })).rejected];
    };
    const reasons = await rejected(1);
    assertEquals(reasons.map(([reason]) => reason).sort(), ["answer repeats itself", "message repeats itself"]);
    for (const piece of [7, 64, 300]) assertEquals(await rejected(piece), reasons);
  });

  it("takes a real engine, whose conversations do not depend on what runs beside", async () => {
    using model = await createTinyModel();
    const files = createFakeModel();
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      await copyFile(join(files.dir, name), join(model.dir, name));
    files.remove();
    const engine = new EngineClient({
      engine: {
        model: model.dir,
        device: "cpu",
        threads: 1,
        contextLength: 1024,
        maxSequences: 4,
        kvMemory: undefined,
        activations: "auto",
        adapters: {},
      },
    });
    try {
      await engine.ready();
      const random = maker(engine, { checks: ANYTHING });
      const one = await generate({ maker: random, count: 6, concurrency: 1 });
      const many = await generate({ maker: random, count: 6, concurrency: 4 });
      assertEquals(many.candidates, one.candidates);
      assertEquals(one.kept, 6);
      const strict = await generate({ maker: maker(engine), count: 6, most: 6, concurrency: 4 });
      assertEquals(strict.kept, 0);
    } finally {
      await engine.close();
    }
  });
});

describe("CandidateLog", () => {
  const settings = { ...SETTINGS, model: "abc" };
  const kept: Candidate = { candidate: 0, messages: [{ role: "user", content: "ü?" }] };
  const rejected: Candidate = { candidate: 1, rejected: "message too short" };

  it("goes on behind the last whole line", () =>
    inFolder((dir) => {
      const path = join(dir, "log");
      {
        using log = CandidateLog.open(path, settings);
        log.add(kept);
        log.add(rejected);
      }
      const whole = readFileSync(path, "utf8");
      appendFileSync(path, '{"candidate":2,"mess');
      {
        using log = CandidateLog.open(path, settings);
        assertEquals(log.candidates, [kept, rejected]);
      }
      assertEquals(readFileSync(path, "utf8"), whole);
    }));

  it("refuses other settings, other files and another process", () =>
    inFolder((dir) => {
      const path = join(dir, "log");
      {
        using _log = CandidateLog.open(path, settings);
        assertThrows(
          () => CandidateLog.open(path, settings),
          Error,
          `Cannot write ${path}: another process is writing it`,
        );
      }
      assertThrows(
        () => CandidateLog.open(path, { ...settings, seed: 2, model: "def" }),
        Error,
        `Cannot continue ${path}: it was begun with seed 1 instead of 2, model abc instead of def`,
      );
      writeFileSync(path, '{"messages": []}\n');
      assertThrows(() => CandidateLog.open(path, settings), Error, "it does not begin with the settings of a run");
    }));
});
