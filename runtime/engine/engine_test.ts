import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB, type TinyModel } from "../../tests/fixtures/tiny_model.ts";
import { KV_BLOCK_SIZE } from "../ops/inference.ts";
import { BlockManager } from "./block_manager.ts";
import { Engine } from "./engine.ts";
import { loadModel } from "./loaded_model.ts";
import { type EngineOptions, type EngineOutput, type EngineRequest, GREEDY } from "./protocol.ts";
import { Scheduler } from "./scheduler.ts";
import { Sequence } from "./sequence.ts";

let tiny: TinyModel;

beforeAll(async () => {
  tiny = await createTinyModel({ loraRank: 4 });
});
afterAll(() => tiny[Symbol.dispose]());

function options(changes: Partial<EngineOptions> = {}): EngineOptions {
  return {
    model: tiny.dir,
    device: "cpu",
    threads: 2,
    contextLength: 256,
    maxSequences: 4,
    kvMemory: undefined,
    activations: "int8",
    adapters: {},
    ...changes,
  };
}

function open(changes: Partial<EngineOptions> = {}): Engine {
  return new Engine(loadModel(options(changes)));
}

/** A request whose prompt depends on its number; odd ones sample, even ones are greedy. */
function request(n: number, changes: Partial<EngineRequest> = {}): EngineRequest {
  const prompt = Array.from({ length: 5 + ((n * 37) % 90) }, (_, i) => (n * 131 + i * 17) % TINY_VOCAB);
  const sampling = n % 2 === 0 ? GREEDY : { ...GREEDY, temperature: 1, topP: 0.95, seed: BigInt(n) };
  return { id: `r${n}`, prompt, maxTokens: 24, stopTokens: [], sampling, ...changes };
}

/** Runs the requests; `arrive` says at which step each is added. */
function run(engine: Engine, requests: readonly EngineRequest[], arrive: (index: number) => number = () => 0) {
  const tokens = new Map<string, number[]>(requests.map(({ id }) => [id, []]));
  const finished = new Map<string, string>();
  let mostWaiting = 0;
  for (let step = 0; step < 10_000; step++) {
    for (const [index, added] of requests.entries()) if (arrive(index) === step) engine.add(added);
    if (!engine.hasWork() && requests.every((_, index) => arrive(index) <= step))
      return { tokens, finished, mostWaiting };
    for (const output of engine.step()) {
      tokens.get(output.id)?.push(...output.tokens);
      if (output.finish) finished.set(output.id, output.finish);
    }
    mostWaiting = Math.max(mostWaiting, engine.stats().waiting);
  }
  throw new Error("the engine did not finish");
}

const REQUESTS = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => request(n));

/** Each request in an engine of its own. */
function alone(): Map<string, number[]> {
  const all = new Map<string, number[]>();
  for (const one of REQUESTS) {
    using engine = open();
    all.set(one.id, run(engine, [one]).tokens.get(one.id) as number[]);
  }
  return all;
}

describe("Engine", () => {
  it("gives a request the same tokens whatever runs beside it", () => {
    const expected = alone();
    using together = open();
    assertEquals(run(together, REQUESTS).tokens, expected);
    using staggered = open();
    assertEquals(run(staggered, REQUESTS, (index) => index * 3).tokens, expected);
  });

  it("gives the same tokens when a full cache forces preemption", () => {
    const expected = alone();
    using engine = open();
    const blockBytes = engine.model.memory.kvCache / engine.stats().kvBlocksTotal;
    using cramped = open({ kvMemory: blockBytes * 9 });
    const { tokens, mostWaiting } = run(cramped, REQUESTS);
    assertEquals(tokens, expected);
    assert(mostWaiting > REQUESTS.length - cramped.model.maxSequences, "nothing was sent back to wait");
  });

  it("computes one block of a prompt it has seen, and draws the same tokens", () => {
    using engine = open({ contextLength: 1200 });
    const long = (id: string) => request(0, { id, prompt: Array.from({ length: 1000 }, (_, i) => (i * 7) % 320) });
    const first = run(engine, [long("a")]).tokens.get("a");
    const before = engine.stats();
    engine.add(long("b"));
    const outputs: EngineOutput[] = [];
    while (engine.hasWork()) outputs.push(...engine.step());
    assertEquals(
      outputs.flatMap(({ tokens }) => tokens),
      first,
    );
    assertEquals(outputs.map(({ sharedTokens }) => sharedTokens).slice(0, 2), [992, undefined]);
    assertEquals(engine.stats().promptTokens - before.promptTokens, 1000 - 992);
    assertEquals(engine.stats().sharedTokens - before.sharedTokens, 992);
  });

  it("gives the same tokens whatever the size of the prompt's chunks", () => {
    const expected = alone();
    for (const rows of [1, 7, 50, 256]) {
      using loaded = loadModel(options());
      const scheduler = new Scheduler(
        new BlockManager(loaded.shape.kvBlocks, KV_BLOCK_SIZE),
        loaded.shape.maxSequences,
      );
      const sequences = REQUESTS.map((one) => new Sequence(one, -1));
      for (const sequence of sequences) scheduler.add(sequence);
      while (scheduler.running + scheduler.waiting > 0) {
        const scheduled = scheduler.schedule(rows);
        const drawn = loaded.runner.run(scheduled);
        scheduler.computed(scheduled);
        for (const { sequence, token } of drawn) if (sequence.append(token)) scheduler.remove(sequence);
      }
      for (const { request, tokens, promptTokens } of sequences) {
        assertEquals(tokens.slice(promptTokens), expected.get(request.id), `${rows} rows a step`);
      }
    }
  });

  it("gives the same tokens on one thread", () => {
    using one = open({ threads: 1 });
    using two = open({ threads: 2 });
    assertEquals(run(one, REQUESTS).tokens, run(two, REQUESTS).tokens);
  });

  it("draws differently with another seed and the same with the same seed", () => {
    using engine = open();
    const draw = (id: string, seed: bigint) =>
      request(1, { id, sampling: { ...GREEDY, temperature: 1, seed }, maxTokens: 40 });
    const { tokens } = run(engine, [draw("a", 7n), draw("b", 7n), draw("c", 8n)]);
    assertEquals(tokens.get("a"), tokens.get("b"));
    assertNotEquals(tokens.get("a"), tokens.get("c"));
  });

  it("ends with the reason: a stop token, which is reported, or the length", () => {
    using engine = open();
    const whole = run(engine, [request(0)]).tokens.get("r0") as number[];
    const stopAt = whole[9];
    const { tokens, finished } = run(engine, [request(0, { stopTokens: [stopAt] }), request(2)]);
    assertEquals(tokens.get("r0"), whole.slice(0, whole.indexOf(stopAt) + 1));
    assertEquals([finished.get("r0"), finished.get("r2")], ["stop", "length"]);
  });

  it("reports log-probabilities that agree with greedy choice", () => {
    using engine = open();
    engine.add(request(0, { sampling: { ...GREEDY, logprobs: 3 } }));
    while (engine.hasWork()) {
      for (const { tokens, logprobs } of engine.step()) {
        const [entry] = logprobs ?? [];
        assertEquals([entry.token, entry.top[0][0], entry.top.length], [tokens[0], tokens[0], 3]);
        assertEquals(entry.logprob, entry.top[0][1]);
        assert(entry.top[0][1] >= entry.top[1][1] && entry.top[1][1] >= entry.top[2][1] && entry.logprob < 0);
      }
    }
  });

  it("penalties change what is drawn and are the same with company", () => {
    const penalised = request(0, { id: "p", sampling: { ...GREEDY, repetitionPenalty: 1.5, presencePenalty: 0.5 } });
    using engine = open();
    const plain = run(engine, [request(0)]).tokens.get("r0");
    const lonely = run(engine, [penalised]).tokens.get("p");
    assertNotEquals(lonely, plain);
    assertEquals(run(engine, [...REQUESTS, penalised]).tokens.get("p"), lonely);
  });

  it("a logit bias can force and forbid a token", () => {
    using engine = open();
    const first = (run(engine, [request(0)]).tokens.get("r0") as number[])[0];
    const bias = (token: number, value: number) => ({ ...GREEDY, logitBias: [[token, value]] as const });
    const forced = run(engine, [request(0, { sampling: bias(9, 100), maxTokens: 3 })]).tokens.get("r0");
    assertEquals(forced, [9, 9, 9]);
    const forbidden = run(engine, [request(0, { sampling: bias(first, -100), maxTokens: 1 })]).tokens.get("r0");
    assertNotEquals(forbidden, [first]);
  });

  it("abort frees a request's blocks before the next step", () => {
    using engine = open();
    engine.add(request(3));
    engine.step();
    assert(engine.stats().kvBlocksUsed > 0);
    engine.abort("r3");
    assertEquals([engine.stats().kvBlocksUsed, engine.hasWork()], [0, false]);
  });

  it("refuses what it cannot run and names it", () => {
    using engine = open();
    const refused: [string, Partial<EngineRequest>][] = [
      ["no tokens", { prompt: [] }],
      ["320", { prompt: [320] }],
      ["-1", { prompt: [-1] }],
      ["at most 256", { maxTokens: 1000 }],
      ["temperature", { sampling: { ...GREEDY, temperature: Number.NaN } }],
      ["topP", { sampling: { ...GREEDY, topP: 0 } }],
      ["seed", { sampling: { ...GREEDY, seed: -1n } }],
      ["logitBias", { sampling: { ...GREEDY, logitBias: [[320, 1]] } }],
      ["no adapter x", { adapter: "x" }],
    ];
    for (const [message, changes] of refused) {
      const error = assertThrows(() => engine.add(request(0, changes)));
      assert(String(error).includes(message), `${error} does not name ${message}`);
    }
    assertEquals(engine.hasWork(), false);
  });
});
