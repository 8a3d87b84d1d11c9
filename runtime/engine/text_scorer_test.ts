import { assert, assertEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_VOCAB, type TinyModel } from "../../tests/fixtures/tiny_model.ts";
import { itShared, sharedPath } from "../../tests/shared.ts";
import { branchNlls, sequenceNlls } from "../eval/nll.ts";
import { Engine } from "./engine.ts";
import { type LoadedModel, loadModel } from "./loaded_model.ts";
import { GREEDY } from "./protocol.ts";

let tiny: TinyModel;

beforeAll(async () => {
  tiny = await createTinyModel({ loraRank: 4 });
});
afterAll(() => tiny[Symbol.dispose]());

function open(contextLength: number, maxSequences: number, kvMemory?: number): LoadedModel {
  const numbers = { threads: 2, contextLength, maxSequences, kvMemory, activations: "int8" as const };
  return loadModel({ model: tiny.dir, device: "cpu", adapters: {}, ...numbers });
}

const text = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, i) => (seed * 131 + i * 17 + ((i * i) % 7)) % TINY_VOCAB);

/** The nats of the last tokens of each text, each text scored alone. */
async function alone(beginning: readonly number[], branches: readonly (readonly number[])[]): Promise<Float32Array[]> {
  using loaded = open(1024, 1);
  const texts = branches.map((branch) => [...beginning, ...branch]);
  const nlls = await sequenceNlls(loaded, texts, -1);
  return nlls.map((nll) => nll.slice(beginning.length - 1));
}

describe("TextScorer", () => {
  it("gives branches of one beginning the bits that each has alone, whatever their lengths", async () => {
    const branches = [text(1, 1), text(5, 2), text(40, 3), text(300, 4), text(2, 5)];
    using loaded = open(1024, 3);
    for (const length of [1, 2, 15, 16, 17, 33, 100, 290, 600]) {
      const beginning = text(length, length);
      assertEquals(branchNlls(loaded, beginning, branches, -1), await alone(beginning, branches), `${length} tokens`);
    }
  });

  it("does so when the cache holds few branches at a time", async () => {
    const beginning = text(50, 1);
    const branches = Array.from({ length: 9 }, (_, i) => text(20 + i, i));
    const expected = await alone(beginning, branches);
    using roomy = open(128, 8);
    // Blocks for one branch at full length and a little more.
    using cramped = open(128, 8, roomy.info.memory.kvCache / 6);
    assertEquals(branchNlls(cramped, beginning, branches, -1), expected);
  });

  itShared("does so for every family: sliding windows, biases, norms of queries and keys", async () => {
    for (const family of ["llama3", "mistral", "qwen2", "qwen3"]) {
      const numbers = {
        threads: 2,
        contextLength: 128,
        maxSequences: 3,
        kvMemory: undefined,
        activations: "f32" as const,
      };
      using loaded = loadModel({ model: sharedPath(`golden/tiny/${family}`), device: "cpu", adapters: {}, ...numbers });
      const ids = (length: number, seed: number) => text(length, seed).map((id) => id % loaded.config.vocabSize);
      const beginning = ids(57, 1);
      const branches = [ids(3, 2), ids(31, 3), ids(1, 4)];
      const whole = branches.map((branch) => [...beginning, ...branch]);
      const expected = (await sequenceNlls(loaded, whole, -1)).map((nll) => nll.slice(56));
      assertEquals(branchNlls(loaded, beginning, branches, -1), expected, family);
    }
  });

  it("leaves the runner fit for other work", () => {
    const loaded = open(256, 2);
    const request = { id: "a", prompt: text(40, 9), maxTokens: 12, stopTokens: [], sampling: GREEDY };
    const generate = (engine: Engine): number[] => {
      engine.add(request);
      const tokens: number[] = [];
      while (engine.hasWork()) tokens.push(...engine.step().flatMap((output) => output.tokens));
      return tokens;
    };
    using fresh = new Engine(open(256, 2));
    const expected = generate(fresh);
    branchNlls(loaded, text(30, 1), [text(4, 2), text(5, 3)], -1);
    using engine = new Engine(loaded);
    assertEquals(generate(engine), expected);
  });

  it("refuses tokens that the model does not have", () => {
    using loaded = open(64, 2);
    for (const token of [TINY_VOCAB, -1, 0.5, Number.NaN]) {
      const message = `received token ${token}, expected ids below ${TINY_VOCAB}`;
      assertThrows(() => loaded.runner.scoreText([1, token, 2], -1, () => {}), Error, message);
      assertThrows(() => branchNlls(loaded, [1], [[2, token, 3]], -1), Error, message);
    }
  });

  it("refuses a text that is longer than the context", () => {
    using loaded = open(64, 2);
    assertEquals(branchNlls(loaded, text(60, 1), [text(5, 2)], -1).length, 1);
    const error = assertThrows(() => branchNlls(loaded, text(60, 1), [text(2, 2), text(6, 2)], -1));
    assert(String(error).includes("received 65 tokens, expected at most 64"), String(error));
    assertThrows(() => loaded.runner.scoreText(text(65, 1), -1, () => {}), Error, "received 65 tokens");
  });
});
