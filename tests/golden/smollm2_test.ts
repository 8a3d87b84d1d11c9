import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe } from "@std/testing/bdd";
import { Engine } from "../../runtime/engine/engine.ts";
import type { LoadedModel } from "../../runtime/engine/loaded_model.ts";
import { GREEDY } from "../../runtime/engine/protocol.ts";
import { sequenceNlls } from "../../runtime/eval/nll.ts";
import { importGguf } from "../../runtime/import/import_gguf.ts";
import { openTokenizer } from "../../runtime/tokenizer/mod.ts";
import { hasShared, itShared, sharedPath } from "../shared.ts";
import { goldenModel, logitsOf } from "./load.ts";

interface Golden {
  chats: { prompt: string; ids: number[]; top_ids: number[]; top_logits: number[]; greedy: number[] }[];
  passage: { ids: number[]; nll: number[] };
}

/** Where the reference's two best tokens are closer than this, float32 rounding may choose either. */
const CLEAR_LEAD = 1e-2;
const source = sharedPath("models/SmolLM2-135M-Instruct");

/** The full-precision model against transformers' float32 arithmetic over the same float16 weights. */
describe("SmolLM2-135M-Instruct in float16", () => {
  const folder = mkdtempSync(join(tmpdir(), "apiq-smollm2-"));
  let golden: Golden;

  beforeAll(() => {
    if (!hasShared) return;
    golden = JSON.parse(readFileSync(sharedPath("golden/smollm2.json"), "utf8"));
    execFileSync("node", [sharedPath("tools/gguf_to_hf.mjs"), source, folder], { stdio: "ignore" });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  itShared("the 20 largest logits after each chat are within 2e-3", () => {
    using loaded = goldenModel(folder);
    const vocab = loaded.config.vocabSize;
    for (const chat of golden.chats) {
      const last = logitsOf(loaded, chat.ids).subarray(-vocab);
      for (const [i, id] of chat.top_ids.entries()) assertAlmostEquals(last[id], chat.top_logits[i], 2e-3);
    }
  });

  itShared("greedy continuations are identical wherever the reference's lead is clear", () => {
    using engine = new Engine(goldenModel(folder));
    for (const [index, chat] of golden.chats.entries()) {
      const { greedy } = chat;
      engine.add({
        id: `${index}`,
        prompt: chat.ids,
        maxTokens: greedy.length,
        stopTokens: [],
        sampling: { ...GREEDY, logprobs: 2 },
      });
    }
    const got = golden.chats.map((): number[] => []);
    const leads = golden.chats.map((): number[] => []);
    while (engine.hasWork()) {
      for (const { id, tokens, logprobs } of engine.step()) {
        got[Number(id)].push(...tokens);
        for (const { top } of logprobs ?? []) leads[Number(id)].push(top[0][1] - top[1][1]);
      }
    }
    for (const [index, { greedy }] of golden.chats.entries()) {
      const differs = greedy.findIndex((token, i) => got[index][i] !== token);
      if (differs >= 0) assert(leads[index][differs] < CLEAR_LEAD, `chat ${index} differs at token ${differs}`);
    }
  });

  itShared("negative log-likelihoods of a passage are within 1e-3", async () => {
    using loaded = goldenModel(folder);
    const [nll] = await sequenceNlls(loaded, [golden.passage.ids], -1);
    assertEquals(nll.length, golden.passage.nll.length);
    for (const [i, value] of golden.passage.nll.entries()) assertAlmostEquals(nll[i], value, 1e-3);
  });
});

describe("SmolLM2-135M-Instruct imported from its Q4_1 file", () => {
  const parent = mkdtempSync(join(tmpdir(), "apiq-smollm2-packed-"));
  const folder = join(parent, "model");

  beforeAll(async () => {
    if (hasShared) await importGguf({ gguf: join(source, "SmolLM2-135M-Instruct.Q4_1.gguf"), out: folder });
  });
  afterAll(() => rmSync(parent, { recursive: true, force: true }));

  const perplexity = async (loaded: LoadedModel, windows: readonly number[][]): Promise<number> => {
    const nlls = (await sequenceNlls(loaded, windows, -1)).flatMap((nll) => [...nll]);
    return Math.exp(nlls.reduce((a, b) => a + b, 0) / nlls.length);
  };

  itShared("float32 activations give the float16 model's likelihoods: importing loses nothing", async () => {
    const golden: Golden = JSON.parse(readFileSync(sharedPath("golden/smollm2.json"), "utf8"));
    using loaded = goldenModel(folder);
    const [nll] = await sequenceNlls(loaded, [golden.passage.ids], -1);
    // The float16 model rounds the dequantised weights once more.
    for (const [i, value] of golden.passage.nll.entries()) assertAlmostEquals(nll[i], value, 2e-2);
  });

  itShared("int8 activations move perplexity on WikiText-2 by less than 0.5 %", async () => {
    const text = readFileSync(sharedPath("data/wikitext-2/test.txt"), "utf8").slice(0, 16000);
    const ids = openTokenizer(folder).encode(text);
    const windows = [0, 1, 2].map((i) => ids.slice(i * 512, (i + 1) * 512));
    using exact = goldenModel(folder);
    using fast = goldenModel(folder, { activations: "int8" });
    const reference = await perplexity(exact, windows);
    const ratio = (await perplexity(fast, windows)) / reference;
    assert(Math.abs(ratio - 1) < 0.005, `perplexity ${reference} moves by a factor ${ratio}`);
  });
});
