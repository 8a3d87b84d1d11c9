/** What goes wrong ends in one line that names it, and loses no finished block. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ApiqError } from "../../ffi/mod.ts";
import type { QuantizationMethod } from "../../runtime/quantize/method.ts";
import { type QuantizeOptions, quantize } from "../../runtime/quantize/pipeline.ts";
import { methodNamed } from "../../runtime/quantize/registry.ts";
import { createDenseModel, type DenseModelOptions } from "../fixtures/dense_model.ts";
import { createTinyModel } from "../fixtures/tiny_model.ts";
import { repositoryRoot } from "../shared.ts";
import { smallRun, temporaryFolder } from "./run.ts";

/** The message of a run that fails. */
async function failure(
  model: DenseModelOptions,
  method: string,
  change: (options: QuantizeOptions) => QuantizeOptions = (options) => options,
): Promise<string> {
  using source = await createDenseModel(model);
  using folder = temporaryFolder();
  const options = change(smallRun(source.dir, folder.dir, method));
  const { message } = await assertRejects(() => quantize(options), Error);
  assert(!message.includes("\n"), message);
  assert(!existsSync(options.out));
  return message;
}

describe("quantize refuses a source", () => {
  it("that is packed", async () => {
    using packed = await createTinyModel();
    using folder = temporaryFolder();
    const run = () => quantize(smallRun(packed.dir, folder.dir, "rtn"));
    await assertRejects(run, Error, "its weights are packed already, received gptq, 2 bits");
  });

  it("that lacks a tensor or a file", async () => {
    using model = await createDenseModel({ sharded: true });
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    await assertRejects(() => quantize({ ...options, source: join(model.dir, "absent") }), Error, "config.json");
    rmSync(join(model.dir, "model-00002-of-00002.safetensors"));
    await assertRejects(() => quantize(options), Error, "the shard does not exist");
    const layers = { num_hidden_layers: 3 };
    assertStringIncludes(await failure({ config: layers }, "rtn"), '"model.layers.2.self_attn.q_proj.weight"');
  });

  it("whose file ends early", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    truncateSync(join(model.dir, "model.safetensors"), 50_000);
    await assertRejects(() => quantize(smallRun(model.dir, folder.dir, "rtn")), Error, "model.safetensors");
  });

  it("with inputs that the group does not divide, unless they are kept", async () => {
    const model = { intermediate: 160 };
    const message = await failure(model, "rtn");
    assertStringIncludes(message, "model.layers.0.mlp.down_proj: groups of 64 do not divide its 160 inputs");
    using source = await createDenseModel(model);
    using folder = temporaryFolder();
    await quantize(smallRun(source.dir, folder.dir, "rtn", {}, { keep: ["model.layers.*.mlp.down_proj"] }));
  });

  it("with a weight that is no number, and keeps the blocks before it", async () => {
    using source = await createDenseModel({
      edit: (name, values) => {
        if (name === "model.layers.1.mlp.up_proj.weight") values[3] = Number.POSITIVE_INFINITY;
      },
    });
    using folder = temporaryFolder();
    const options = smallRun(source.dir, folder.dir, "rtn");
    const { message } = await assertRejects(() => quantize(options), Error);
    assertMatch(
      message,
      /^Cannot quantize block 2 of 2: .*up_proj.* no finite number at row 0, column 3, received Infinity/,
    );
    assertStringIncludes(message, `1 of 2 blocks are kept in ${options.out}.partial`);
    assert(existsSync(join(`${options.out}.partial`, "block-000.safetensors")));
  });

  it("with a table or last norm that holds no number, before anything is computed", async () => {
    for (const name of ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"]) {
      for (const dtype of ["F16", "BF16", "F32"] as const) {
        const edit = (tensor: string, values: Float32Array): void => {
          if (tensor === name) values[100] = Number.NaN;
        };
        const message = await failure({ dtype, edit }, "rtn");
        const where = name.includes("norm") ? "element 100" : "row 0, column 100";
        assertMatch(message, new RegExp(`"${name}".* no finite number at ${where}. No block was finished$`));
      }
    }
  });

  it("that is a file", async () => {
    using folder = temporaryFolder();
    const file = join(folder.dir, "model.gguf");
    writeFileSync(file, "GGUF");
    const run = () => quantize(smallRun(file, folder.dir, "rtn"));
    await assertRejects(run, Error, `Cannot open ${file}: it is a GGUF file, expected a folder with config.json`);
  });

  it("with hidden states that overflow", async () => {
    const edit = (name: string, values: Float32Array): void => {
      if (name.endsWith("norm.weight")) values.fill(3e38);
    };
    const message = await failure({ dtype: "F32", edit }, "apiq-bw");
    assertMatch(message, /^Cannot quantize block 1 of 2: .*(NaN|Infinity|no finite)/);
  });
});

describe("quantize refuses", () => {
  it("a rank that no matrix of the model has", async () => {
    const model = { hidden: 64 };
    const wide = (options: QuantizeOptions) => ({ ...options, settings: { ...options.settings, rank: 65 } });
    const message = "Cannot use --rank: received 65, expected at most 64, the model's hidden size";
    assertStringIncludes(await failure(model, "loftq", wide), message);
    using source = await createDenseModel(model);
    using folder = temporaryFolder();
    await quantize(wide(smallRun(source.dir, folder.dir, "rtn")));
  });

  it("calibration data that is missing, too short or no text", async () => {
    const data = (file: string | null) => (options: QuantizeOptions) => ({
      ...options,
      calibration: { ...options.calibration, data: file },
    });
    assertStringIncludes(await failure({}, "gptq", data(null)), "gptq without calibration data: give --data FILE");
    assertStringIncludes(await failure({}, "gptq", data("/nonexistent")), "Cannot read calibration data /nonexistent");
    using folder = temporaryFolder();
    const short = join(folder.dir, "short.txt");
    writeFileSync(short, "too short");
    assertStringIncludes(await failure({}, "gptq", data(short)), "it has 9 tokens, expected at least 48");
    const lines = join(folder.dir, "bad.jsonl");
    writeFileSync(lines, '{"text": "good"}\n{"txt": "bad"}\n');
    assertStringIncludes(await failure({}, "gptq", data(lines)), `line 2 of ${lines}: received an object with txt`);
  });

  it("rows of calibration data that it cannot use, by their line", async () => {
    using folder = temporaryFolder();
    const file = join(folder.dir, "rows.jsonl");
    const rows = async (...lines: string[]): Promise<string> => {
      writeFileSync(file, `${lines.join("\n")}\n`);
      return await failure({}, "gptq", (options) => ({
        ...options,
        calibration: { ...options.calibration, data: file },
      }));
    };
    const text = '{"text": "good"}';
    const chat = '{"messages": [{"role": "user", "content": "good"}]}';
    const kinds = "expected one kind in a file";
    assertEquals(await rows(text, "", chat), `Cannot use line 3 of ${file}: received a chat after texts, ${kinds}`);
    assertEquals(await rows(chat, text), `Cannot use line 2 of ${file}: received a text after chats, ${kinds}`);
    assertStringIncludes(
      await rows(text, '{"text": 5}'),
      `Cannot read line 2 of ${file}: received {"text":5}, expected`,
    );
    assertStringIncludes(
      await rows('{"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}'),
      `Cannot read line 1 of ${file}: received {"role":"user"} as message 2, expected`,
    );
    const number = '{"messages": [{"role": "user", "content": 5}]}';
    assertStringIncludes(
      await rows(chat, number),
      `Cannot read line 2 of ${file}: received {"role":"user","content":5}`,
    );
  });

  it("a chat where the model has no template, and names the line", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const config = join(model.dir, "tokenizer_config.json");
    const { chat_template: _, ...others } = JSON.parse(readFileSync(config, "utf8"));
    writeFileSync(config, JSON.stringify(others));
    const data = join(folder.dir, "chats.jsonl");
    writeFileSync(data, '{"messages": [{"role": "user", "content": "good"}]}\n');
    const options = smallRun(model.dir, folder.dir, "gptq");
    const run = () => quantize({ ...options, calibration: { ...options.calibration, data } });
    await assertRejects(run, Error, `Cannot calibrate on line 1 of ${data}: Cannot render messages`);
  });

  it("to begin from weights that are not packed or another model's", async () => {
    using model = await createDenseModel();
    using other = await createDenseModel({ layers: 3 });
    using folder = temporaryFolder();
    const begin = (initFrom: string) => () =>
      quantize(smallRun(model.dir, folder.dir, "loftq", {}, { initFrom, out: join(folder.dir, "second") }));
    await assertRejects(begin(model.dir), Error, `Cannot begin from ${model.dir}: its weights are not packed`);
    const { out } = await quantize(smallRun(other.dir, folder.dir, "loftq"));
    await assertRejects(
      begin(out),
      Error,
      `Cannot begin from ${out}: it was made from another model than ${model.dir}`,
    );
  });

  it("a pattern that keeps nothing", async () => {
    const message = await failure({}, "rtn", (options) => ({ ...options, keep: ["model.layers.*.mlp.gate"] }));
    assertStringIncludes(message, 'Cannot keep "model.layers.*.mlp.gate": no linear has such a name');
  });
});

/** rtn, until block `layer` fails as `fail` does. */
function failing(
  layer: number,
  fail: (job: Parameters<QuantizationMethod["quantizeBlock"]>[0]) => Promise<void> | never,
) {
  const rtn = methodNamed("rtn");
  const quantizeBlock: QuantizationMethod["quantizeBlock"] = async (job) => {
    if (job.layer === layer) await fail(job);
    return await rtn.quantizeBlock(job);
  };
  return (options: QuantizeOptions): QuantizeOptions => ({ ...options, method: { ...rtn, quantizeBlock } });
}

describe("a run that fails says in one line", () => {
  it("that the loss is no number", async () => {
    const event = { part: "mlp.up_proj", epoch: 3, epochs: 20, step: 7, steps: 128, loss: Number.NaN };
    const message = await failure(
      {},
      "rtn",
      failing(1, (job) => job.report(event)),
    );
    assertStringIncludes(message, "block 2 of 2: the loss of mlp.up_proj became NaN in epoch 3, step 7");
    assertStringIncludes(message, "1 of 2 blocks are kept");
  });

  it("that memory is out", async () => {
    const fail = () => {
      throw new ApiqError("OUT_OF_MEMORY", "allocate a buffer", "no room for 999 bytes");
    };
    const message = await failure({}, "rtn", failing(1, fail));
    assertStringIncludes(message, "out of memory (Cannot allocate a buffer: no room for 999 bytes (OUT_OF_MEMORY))");
    assertStringIncludes(message, "--stream-dir");
  });

  it("what others' code threw over several lines", async () => {
    const fail = () => {
      throw new Error("first\n  second\n");
    };
    const message = await failure({}, "rtn", failing(0, fail));
    assertEquals(message, "Cannot quantize block 1 of 2: first second. No block was finished");
  });

  it("that a method's result cannot be stored", async () => {
    const rtn = methodNamed("rtn");
    const method: QuantizationMethod = {
      ...rtn,
      quantizeBlock: async (job) => {
        const made = await rtn.quantizeBlock(job);
        const [first] = made.values();
        if (first!.weights.family === "affine") first!.weights.scales[5] = Number.NaN;
        return made;
      },
    };
    const message = await failure({}, "rtn", (options) => ({ ...options, method }));
    assertStringIncludes(message, "Cannot store model.layers.0.self_attn.q_proj: received NaN in its scales");
  });

  it("that a file may not grow, and continues when it may", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const command = `${repositoryRoot}scripts/apiq quantize ${model.dir} --out ${options.out} --method rtn`;
    // Blocks take 40 KB, the model more than 100: writing it meets the limit. The signal that comes with it is ignored.
    const limited = `trap '' XFSZ; ulimit -f 200; exec ${command}`;
    const { status, stderr } = spawnSync("sh", ["-c", limited], { encoding: "utf8", env: process.env });
    assertEquals(status, 1, stderr);
    assertMatch(
      stderr,
      /error: Cannot put the model together: the file would be larger .*2 of 2 blocks are kept in .*\n$/,
    );
    assert(!existsSync(options.out));
    const again = spawnSync("sh", ["-c", `exec ${command}`], { encoding: "utf8", env: process.env });
    assertEquals(again.status, 0, again.stderr);
    assert(existsSync(join(options.out, "model.safetensors")));
  });
});
