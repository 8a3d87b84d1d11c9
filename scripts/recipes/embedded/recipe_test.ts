import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { calibrationText, createDenseModel } from "../../../tests/fixtures/dense_model.ts";
import { runApiq } from "../../../tests/http/server_process.ts";
import { isHeldOut } from "../self_chats/held_out.ts";
import { type GateReport, runGates } from "./gates.ts";
import { type RecipeOptions, type RecipeSettings, runRecipe } from "./recipe.ts";
import { readChats } from "./training_data.ts";

const GATES = { chats: 3, answerTokens: 6, chatTokens: 96, windows: 2, windowTokens: 48 };

const SETTINGS: RecipeSettings = {
  seed: 0,
  chats: 40,
  rank: 4,
  bitsFor: [],
  calibration: { samples: 2, length: 48, epochs: 1 },
  training: {
    epochs: 1,
    steps: 2,
    batchSize: 2,
    microBatch: 1,
    length: 64,
    learningRate: 1e-3,
    weightLearningRate: 1e-3,
    scaleLearningRate: 1e-3,
    topK: 8,
    compute: "f32",
    evalEvery: 2,
    gsm8k: 2,
    arithmetic: 2,
  },
  gates: GATES,
};

const jsonl = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

const chat = (question: string) => ({
  messages: [
    { role: "user", content: question },
    { role: "assistant", content: "Yes, it is." },
  ],
});

/** A folder with chats as self_chats.ts leaves them and data as the shared folder has it. */
function prepareFolder(): { readonly dir: string } & Disposable {
  const dir = mkdtempSync(join(tmpdir(), "apiq-recipe-"));
  const questions = Array.from({ length: 120 }, (_, i) => `Is ${i} a number?`);
  const held = questions.filter(isHeldOut);
  writeFileSync(join(dir, "chats.train.jsonl"), jsonl(questions.filter((q) => !isHeldOut(q)).map(chat)));
  writeFileSync(join(dir, "chats.held-out.jsonl"), jsonl(held.map(chat)));
  for (const name of ["gsm8k", "arithmetic", "wikitext-2"]) mkdirSync(join(dir, "data", name), { recursive: true });
  writeFileSync(
    join(dir, "data/gsm8k/train.jsonl"),
    jsonl([1, 2, 3].map((n) => ({ question: `What is ${n}?`, answer: "1" }))),
  );
  const rows = [1, 2, 3].map((n) => ({ instruction: `Add ${n}.`, input: "", output: `It is ${n}.` }));
  writeFileSync(join(dir, "data/arithmetic/train.json"), JSON.stringify(rows));
  for (const name of ["valid", "test"]) writeFileSync(join(dir, `data/wikitext-2/${name}.txt`), calibrationText(400));
  return { dir, [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Runs apiq as a process and the gates here. */
function optionsOf(dir: string, model: string, calls: string[], given: Partial<RecipeSettings> = {}): RecipeOptions {
  return {
    model,
    data: join(dir, "data"),
    work: join(dir, "work"),
    chats: join(dir, "chats.jsonl"),
    settings: { ...SETTINGS, ...given },
    threads: 1,
    note: () => {},
    run: async (program, args) => {
      calls.push(program === "apiq" ? args[0]! : program);
      if (program === "apiq") {
        const { code, stderr } = await runApiq("bun", [...args]);
        assertEquals(code, 0, stderr);
        return code!;
      }
      const flag = (name: string): string => args[args.indexOf(`--${name}`) + 1]!;
      const models = args.flatMap((arg, i) => (args[i - 1] === "--model" ? [arg] : []));
      const heldOut = readChats(flag("held-out"));
      const common = { threads: 1, signal: new AbortController().signal, note: () => {} };
      const report = await runGates(models, {
        ...{ reference: flag("reference"), heldOut, text: flag("text"), budget: GATES, ...common },
      });
      writeFileSync(flag("out"), JSON.stringify(report));
      return Object.values(report.passed).every(Boolean) ? 0 : 1;
    },
  };
}

describe("the embedded model's recipe", () => {
  it("goes from chats to a judged model, leaves out what is there, and continues nowhere else", async () => {
    using model = await createDenseModel({ layers: 1 });
    using folder = prepareFolder();
    const calls: string[] = [];
    const options = optionsOf(folder.dir, model.dir, calls);
    assertEquals(await runRecipe(options), false);
    assertEquals(calls, ["quantize", "finetune", "embedded_gates"]);
    const { work } = options;
    assertEquals(readdirSync(join(work, "model")).sort(), [
      "apiq_init",
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const report = JSON.parse(readFileSync(join(work, "gates.json"), "utf8")) as GateReport;
    const [quantized, made] = Object.values(report.models);
    assertEquals(Object.keys(report.models), [join(work, "quantized"), join(work, "model")]);
    assert(quantized!.kl > 0 && made!.kl > 0 && made!.kl !== quantized!.kl && made!.tokens > 0);
    assert(made!.repeating >= 0 && made!.repeating <= 1 && made!.judged.length === 4 && made!.shown.length === 3);
    assertEquals(report.chats, 3);
    assertEquals(made!.ratio, made!.perplexity / report.reference.perplexity);
    assertEquals(report.passed, { bytes: true, perplexityRatio: made!.ratio <= 1.6, answer: false });

    rmSync(join(work, "gates.json"));
    await runRecipe(options);
    assertEquals(calls.slice(3), ["embedded_gates"]);
    const { message } = await assertRejects(() => runRecipe(optionsOf(folder.dir, model.dir, [], { rank: 8 })), Error);
    assertStringIncludes(message, `Cannot continue in ${work}: it was begun with the settings in `);
    const elsewhere = { ...options, data: join(folder.dir, "other") };
    assertStringIncludes(
      (await assertRejects(() => runRecipe(elsewhere), Error)).message,
      `Cannot continue in ${work}`,
    );

    // The shared files are looked through again before they are trained on.
    rmSync(join(work, "trained"), { recursive: true });
    const judged = { question: "what is the capital of France", answer: "1" };
    writeFileSync(join(folder.dir, "data/gsm8k/train.jsonl"), jsonl([judged]), { flag: "a" });
    assertStringIncludes((await assertRejects(() => runRecipe(options), Error)).message, "a judged prompt");
    assertEquals(calls.slice(4), []);
  });

  it("makes chats again where it was stopped before the held-out ones were written", async () => {
    using folder = prepareFolder();
    const calls: string[] = [];
    const options: RecipeOptions = {
      ...optionsOf(folder.dir, folder.dir, []),
      chats: null,
      run: async (program) => {
        calls.push(program);
        writeFileSync(join(folder.dir, "work", "chats.train.jsonl"), "");
        return 1;
      },
    };
    for (const _ of [1, 2]) await assertRejects(() => runRecipe(options), Error, "self_chats ended with 1");
    assertEquals(calls, ["self_chats", "self_chats"]);
  });

  it("wants as many held-out chats as it judges by, before it trains", async () => {
    using model = await createDenseModel({ layers: 1 });
    using folder = prepareFolder();
    const heldOut = readChats(join(folder.dir, "chats.held-out.jsonl"));
    const calls: string[] = [];
    const options = optionsOf(folder.dir, model.dir, calls, { gates: { ...GATES, chats: heldOut.length + 1 } });
    const message = `Cannot judge a model by ${heldOut.length + 1} held-out chats: there are ${heldOut.length}`;
    await assertRejects(() => runRecipe(options), Error, message);
    assertEquals(calls, []);
    const none = { ...{ reference: model.dir, heldOut: [], text: "", budget: GATES, threads: 1, note: () => {} } };
    await assertRejects(
      () => runGates([model.dir], { ...none, signal: new AbortController().signal }),
      Error,
      "Cannot judge a model by 3 held-out chats: there are 0",
    );
  });

  it("stops before it trains on what the model is judged by", async () => {
    using model = await createDenseModel({ layers: 1 });
    for (const [file, row, what] of [
      ["data/gsm8k/train.jsonl", { question: "what is the capital of France", answer: "1" }, "a judged prompt"],
      ["chats.train.jsonl", "held out", "the held-out message"],
    ] as const) {
      using folder = prepareFolder();
      const [held] = readChats(join(folder.dir, "chats.held-out.jsonl"));
      writeFileSync(join(folder.dir, file), jsonl([typeof row === "string" ? held! : row]), { flag: "a" });
      const options = optionsOf(folder.dir, model.dir, []);
      assertStringIncludes((await assertRejects(() => runRecipe(options), Error)).message, what);
      assert(!existsSync(join(options.work, "data")));
    }
  });
});
