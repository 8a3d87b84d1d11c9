/** `apiq quantize` from a dense folder to one that the engine loads: what is calibrated is what is served. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint, readTensor } from "../../runtime/formats/mod.ts";
import { dequantizeStored } from "../../runtime/quantize/dequantize.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { readStored } from "../../runtime/quantize/read_stored.ts";
import { METHODS } from "../../runtime/quantize/registry.ts";
import { createDenseModel, DENSE_VOCAB } from "../fixtures/dense_model.ts";
import { largestDifference, logitsOf } from "../golden/load.ts";
import { firstWindow, LENGTH, open, runWithStream, smallRun, temporaryFolder } from "./run.ts";

/** Logits [LENGTH, vocab] of hidden states [LENGTH, hidden], in double precision, by the folder's own final norm and head. */
function logitsOfHidden(dir: string, hidden: Float32Array, head = denseHead(dir)): Float32Array {
  const norm = readTensor(openCheckpoint(dir).tensor("model.norm.weight"));
  const size = norm.length;
  const logits = new Float32Array(LENGTH * DENSE_VOCAB);
  for (let row = 0; row < LENGTH; row++) {
    const x = hidden.subarray(row * size, (row + 1) * size);
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / size + 1e-5);
    for (let token = 0; token < DENSE_VOCAB; token++) {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += x[i]! * scale * norm[i]! * head[token * size + i]!;
      logits[row * DENSE_VOCAB + token] = sum;
    }
  }
  return logits;
}

function denseHead(dir: string): Float32Array {
  const checkpoint = openCheckpoint(dir);
  const tied = checkpoint.config.tie_word_embeddings === true;
  return readTensor(checkpoint.tensor(tied ? "model.embed_tokens.weight" : "lm_head.weight"));
}

describe("quantize, with every method", () => {
  for (const { name, needsCalibration } of METHODS) {
    it(`${name}: the engine computes what was calibrated`, async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const options = smallRun(model.dir, folder.dir, name);
      const { result, hidden } = await runWithStream(options);
      assertEquals(readdirSync(folder.dir).sort(), ["calibration.txt", "out"]);
      using loaded = open(result.out);
      const logits = logitsOf(loaded, firstWindow(model.dir));
      assert(logits.every(Number.isFinite));
      if (!needsCalibration) return;
      const expected = logitsOfHidden(result.out, hidden);
      const spread = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length);
      const apart = largestDifference(logits, expected);
      assert(apart < 2e-3 * spread, `logits of spread ${spread} differ by ${apart}`);
    });
  }
});

describe("quantize with DoRA", () => {
  for (const method of ["apiq-bw", "apiq-lw"]) {
    it(`${method}: the engine computes what was calibrated`, async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const { result, hidden } = await runWithStream(smallRun(model.dir, folder.dir, method, { dora: true, bits: 3 }));
      const adapter = openCheckpoint(result.out).initAdapter;
      assert([...adapter!.targets.values()].every(({ magnitude }) => magnitude !== null));
      using loaded = open(result.out);
      const apart = largestDifference(logitsOf(loaded, firstWindow(model.dir)), logitsOfHidden(result.out, hidden));
      assert(apart < 5e-3, `logits differ by ${apart}`);
    });
  }
});

describe("quantize, with every family", () => {
  for (const family of ["llama", "mistral", "qwen2", "qwen3"] as const) {
    it(`${family}, tied, bfloat16 in two shards: the engine computes what was calibrated`, async () => {
      using model = await createDenseModel({ family, tied: true, dtype: "BF16", sharded: true });
      using folder = temporaryFolder();
      const { result, hidden } = await runWithStream(
        smallRun(model.dir, folder.dir, "apiq-bw", { bits: 3, epochs: 1 }),
      );
      using loaded = open(result.out);
      const expected = logitsOfHidden(result.out, hidden);
      const apart = largestDifference(logitsOf(loaded, firstWindow(model.dir)), expected);
      assert(apart < 5e-3, `logits differ by ${apart}`);
    });
  }
});

describe("quantize", () => {
  it("with 8 bits is close to the source, and closer than with 3", async () => {
    using model = await createDenseModel({ dtype: "F32" });
    const ids = firstWindow(model.dir);
    const apart: number[] = [];
    for (const bits of [8, 3] as const) {
      using folder = temporaryFolder();
      const { out } = await quantize(smallRun(model.dir, folder.dir, "rtn", { bits }));
      using before = open(model.dir);
      using after = open(out);
      apart.push(largestDifference(logitsOf(before, ids), logitsOf(after, ids)));
    }
    assert(apart[0]! < 0.2 && apart[1]! > 2 * apart[0]!, `${apart}`);
  });

  it("leaves what --keep names as it was, and nothing else", async () => {
    using model = await createDenseModel({ dtype: "BF16" });
    using folder = temporaryFolder();
    const keep = ["model.layers.*.mlp.down_proj", "model.layers.0.self_attn.q_proj"];
    const { out } = await quantize(smallRun(model.dir, folder.dir, "rtn", {}, { keep }));
    const [before, after] = [openCheckpoint(model.dir), openCheckpoint(out)];
    const dense = [...after.tensors.keys()].filter((name) => name.endsWith("_proj.weight")).sort();
    assertEquals(dense, [
      "model.layers.0.mlp.down_proj.weight",
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.1.mlp.down_proj.weight",
    ]);
    for (const name of dense) assertEquals(readTensor(after.tensor(name)), readTensor(before.tensor(name)));
    using loaded = open(out);
    assert(logitsOf(loaded, [1, 2, 3]).every(Number.isFinite));
  });

  for (const tied of [true, false]) {
    for (const bits of [8, 4] as const) {
      it(`packs ${tied ? "a tied embedding" : "embedding and head"} in ${bits} bits as it was calibrated`, async () => {
        using model = await createDenseModel({ tied });
        using folder = temporaryFolder();
        const options = smallRun(model.dir, folder.dir, "gptq", { bits: 3 }, { embeddingBits: bits });
        const { result, hidden } = await runWithStream(options);
        const after = openCheckpoint(result.out);
        assertEquals(after.quantization?.method, "apiq");
        const table = after.embedding(tied ? "model.embed_tokens" : "lm_head", DENSE_VOCAB, 128);
        const head = dequantizeStored(readStored(table), DENSE_VOCAB, 128);
        using loaded = open(result.out);
        const apart = largestDifference(
          logitsOf(loaded, firstWindow(model.dir)),
          logitsOfHidden(result.out, hidden, head),
        );
        assert(apart < 5e-3, `logits differ by ${apart}`);
      });
    }
  }

  it("splits a large model into shards that load the same", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    using other = temporaryFolder();
    const whole = await quantize(smallRun(model.dir, folder.dir, "rtn"));
    const split = await quantize(smallRun(model.dir, other.dir, "rtn", {}, { shardBytes: 100_000 }));
    assert(existsSync(join(split.out, "model.safetensors.index.json")));
    assertEquals(split.fingerprint, whole.fingerprint);
    using a = open(whole.out);
    using b = open(split.out);
    assertEquals(logitsOf(a, [5, 6, 7]), logitsOf(b, [5, 6, 7]));
  });

  for (const method of ["apiq-bw", "apiq-lw"]) {
    it(`${method}: with streams in files ends with the same bytes as with streams in memory`, async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      using other = temporaryFolder();
      const memory = await quantize(smallRun(model.dir, folder.dir, method));
      const files = await quantize(smallRun(model.dir, other.dir, method, {}, { streamDir: other.dir }));
      assertEquals(files.fingerprint, memory.fingerprint);
      const adapter = (out: string) => readFileSync(join(out, "apiq_init", "adapter_model.safetensors"));
      assertEquals(adapter(files.out), adapter(memory.out));
    });
  }

  it("begins from another method's result", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    using other = temporaryFolder();
    const first = await quantize(smallRun(model.dir, folder.dir, "gptq"));
    const from = smallRun(model.dir, other.dir, "apiq-bw", { epochs: 1 });
    const plain = await quantize({ ...from, out: join(other.dir, "plain") });
    const begun = await quantize({ ...from, out: join(other.dir, "begun"), initFrom: first.out });
    assert(begun.fingerprint !== plain.fingerprint);
    using loaded = open(begun.out);
    assert(logitsOf(loaded, [1, 2, 3]).every(Number.isFinite));
  });

  it("logs settings, every block and the end, and draws a report", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const { out } = await quantize(smallRun(model.dir, folder.dir, "apiq-bw"));
    const lines = readFileSync(join(out, "quantize.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assertEquals(
      lines.map(({ type }) => type),
      ["settings", "block", "block", "done"],
    );
    assertEquals([lines[0].method, lines[0].bits, lines[0].samples], ["apiq-bw", 2, 3]);
    const [curve] = lines[1].losses;
    assertEquals(curve.losses.length, 2);
    assert(curve.losses.every((loss: number) => loss > 0));
    assert(lines[1].outputError > 0 && lines[1].outputError < 1.5);
    assertEquals(Object.keys(lines[2].linears).length, 7);
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      assertEquals(readFileSync(join(out, name)), readFileSync(join(model.dir, name)));
    }
    const report = readFileSync(join(out, "report.html"), "utf8");
    for (const text of ["apiq-bw, 2 bits, groups of 64", "Loss of each block", "<polyline", "Weight error", "q_proj"]) {
      assertStringIncludes(report, text);
    }
    assert(!report.includes("<script") && !report.includes("NaN"));
  });
});
