import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { createTinyModel, TINY_POSITIONS, type TinyModel } from "../../../tests/fixtures/tiny_model.ts";
import { createFakeModel } from "../../../tests/http/fake_model.ts";
import { openTokenizer } from "../../tokenizer/mod.ts";
import { runProgram } from "../main.ts";
import { Output } from "../output.ts";
import { evalClassifyCommand } from "./eval_classify.ts";
import { evalKlCommand } from "./eval_kl.ts";
import { evalNllCommand } from "./eval_nll.ts";
import { evalPplCommand } from "./eval_ppl.ts";
import { evalRougeCommand } from "./eval_rouge.ts";
import { evalTasksCommand } from "./eval_tasks.ts";

let tiny: TinyModel;
let other: TinyModel;
let dir: string;

/** The tiny model reads bytes as tokens. */
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "apiq-eval-"));
  tiny = await createTinyModel({ loraRank: 4 });
  other = await createTinyModel({ seed: 2 });
  const bytes = createFakeModel();
  for (const model of [tiny.dir, other.dir]) {
    for (const name of ["tokenizer.json", "tokenizer_config.json"])
      copyFileSync(join(bytes.dir, name), join(model, name));
  }
  bytes.remove();
  const adapter = join(tiny.dir, "apiq_init");
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    copyFileSync(join(adapter, name), join(dir, name));
  }
});
afterAll(() => {
  for (const folder of [tiny, other]) folder[Symbol.dispose]();
  rmSync(dir, { recursive: true });
});

async function apiq(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return run(new AbortController().signal, ...args);
}

async function run(signal: AbortSignal, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const sink = (name: "stdout" | "stderr") => ({
    write(text: string): void {
      printed[name] += text;
    },
  });
  const commands = [
    evalPplCommand,
    evalNllCommand,
    evalKlCommand,
    evalTasksCommand,
    evalClassifyCommand,
    evalRougeCommand,
  ];
  const out = new Output(sink("stdout"), sink("stderr"));
  const program = { name: "apiq", summary: "", version: "0", commands };
  const code = await runProgram(program, ["eval", ...args, "--threads", "2"], out, signal);
  return { code, ...printed };
}

async function json(...args: string[]) {
  const { code, stdout, stderr } = await apiq(...args, "--json");
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

function file(name: string, content: string): string {
  writeFileSync(join(dir, name), content);
  return join(dir, name);
}

const lines = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const readLines = (path: string) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

const PROSE = "It was the best of times, it was the worst of times, it was the age of wisdom. ".repeat(8);

describe("apiq eval ppl", () => {
  it("is exp of the mean of what eval nll gives for the same windows", async () => {
    const data = file("prose.txt", PROSE);
    const ids = openTokenizer(tiny.dir).encode(PROSE);
    const windows = [0, 1, 2].map((i) => ids.slice(i * 100, (i + 1) * 100));
    const tokens = file("windows.json", JSON.stringify({ sequences: windows }));
    const { nll } = await json("nll", "--model", tiny.dir, "--tokens", tokens);
    const result = await json("ppl", "--model", tiny.dir, "--data", data, "--window", "100", "--limit", "3");
    const flat: number[] = nll.flat();
    const mean = flat.reduce((a, b) => a + b, 0) / flat.length;
    assertEquals([result.windows, result.tokens, result.window], [3, 3 * 99, 100]);
    assertAlmostEquals(result.nll, mean, 1e-12);
    assertAlmostEquals(result.ppl, Math.exp(mean), 1e-9);
    assert(result.seconds > 0);
  });

  it("takes all windows without a limit, and an adapter, which changes the result", async () => {
    const data = file("prose.txt", PROSE);
    const plain = ["ppl", "--model", other.dir, "--data", data, "--window", "64"];
    const base = await json(...plain);
    assertEquals(base.windows, Math.floor(PROSE.length / 64));
    const adapted = await json(...plain, "--adapter", dir);
    assert(Math.abs(adapted.ppl / base.ppl - 1) > 1e-3);
    const { stdout } = await apiq(...plain);
    assertStringIncludes(stdout, `perplexity  ${base.ppl.toFixed(3)}\n`);
  });

  it("refuses a text shorter than a window and a folder without a tokenizer, in one line", async () => {
    const short = await apiq("ppl", "--model", tiny.dir, "--data", file("short.txt", "abc"), "--window", "4");
    assertEquals([short.code, short.stdout], [1, ""]);
    assertEquals(short.stderr, "error: Cannot cut windows of 4 tokens: received 3 tokens, expected at least 4\n");
    const wide = await apiq("ppl", "--model", tiny.dir, "--data", join(dir, "short.txt"), "--window", "4096");
    assertStringIncludes(
      wide.stderr,
      `--window received 4096, expected at most ${TINY_POSITIONS} (the model's positions)`,
    );
    const absent = await apiq("ppl", "--model", tiny.dir, "--data", join(dir, "absent.txt"));
    assertEquals(absent.stderr, `error: Cannot read ${join(dir, "absent.txt")}: it does not exist\n`);
    const none = await apiq("ppl", "--model", dir, "--data", join(dir, "short.txt"));
    assertEquals(none.stderr, `error: Cannot evaluate ${dir}: there is no tokenizer.json in it\n`);
  });
});

describe("apiq eval refuses, in one line,", () => {
  const refusal = async (...args: string[]) => {
    const { code, stdout, stderr } = await apiq(...args);
    assertEquals([code, stdout], [1, ""]);
    return stderr;
  };

  it("a model folder that does not exist", async () => {
    const missing = join(dir, "absent");
    assertEquals(
      await refusal("ppl", "--model", missing, "--data", file("prose.txt", PROSE)),
      `error: Cannot evaluate ${missing}: it does not exist\n`,
    );
  });

  it("a file without sequences, whose mean would be no number", async () => {
    const tokens = file("none.json", '{"sequences": []}');
    assertStringIncludes(await refusal("nll", "--model", tiny.dir, "--tokens", tokens), "received no sequences");
    const absent = join(dir, "absent.json");
    assertEquals(
      await refusal("nll", "--model", tiny.dir, "--tokens", absent),
      `error: Cannot read ${absent}: it does not exist\n`,
    );
  });

  it("to write results over its data", async () => {
    const row = '{"text": "a", "choices": ["b", "c"], "label": 0}\n';
    const data = file("rows.jsonl", row);
    const stderr = await refusal("classify", "--model", tiny.dir, "--data", data, "--out", data);
    assertEquals(stderr, `error: Cannot write ${data}: it is the data that is read\n`);
    assertEquals(readFileSync(data, "utf8"), row);
  });
});

describe("apiq eval kl", () => {
  it("is 0 between a model and itself", async () => {
    const data = file("prose.txt", PROSE);
    const result = await json("kl", "--model", tiny.dir, "--reference", tiny.dir, "--data", data, "--window", "300");
    assertEquals([result.kl, result.agreement, result.tokens, result.windows], [0, 1, 600, 2]);
  });

  it("is positive between models, and not the same both ways", async () => {
    const data = file("prose.txt", PROSE);
    const compare = (model: string, reference: string) =>
      json("kl", "--model", model, "--reference", reference, "--data", data, "--window", "64", "--limit", "2");
    const there = await compare(tiny.dir, other.dir);
    const back = await compare(other.dir, tiny.dir);
    assert(there.kl > 0.1 && back.kl > 0.1 && Math.abs(there.kl - back.kl) > 1e-3);
    assertEquals(there.agreement, back.agreement);
    assert(there.agreement < 1);
    const text = await apiq("kl", "--model", tiny.dir, "--reference", other.dir, "--data", data, "--window", "64");
    assertStringIncludes(text.stdout, "mean KL");
  });
});

const QUESTIONS = Array.from({ length: 7 }, (_, i) => ({
  instruction: `What is ${i} and ${i * i}?`.repeat(1 + i),
  input: i % 2 === 0 ? "" : "Some context.",
  answer: `${i + i * i}`,
}));

describe("apiq eval tasks", () => {
  it("writes a line for each row in order, with the answer that the row gets alone", async () => {
    const data = file("questions.json", JSON.stringify(QUESTIONS, null, 2));
    const out = join(dir, "answers.jsonl");
    const run = [
      "tasks",
      "--model",
      tiny.dir,
      "--task",
      "arithmetic",
      "--data",
      data,
      "--max-tokens",
      "20",
      "--out",
      out,
    ];
    const result = await json(...run, "--sequences", "3");
    const together = readLines(out);
    assertEquals([result.task, result.rows, together.length], ["arithmetic", 7, 7]);
    assertEquals(
      together.map(({ row }) => row),
      QUESTIONS.map((_, i) => `${data}:${2 + 5 * i}`),
    );
    assertEquals(
      together.map(({ label }) => label),
      QUESTIONS.map(({ answer }) => answer),
    );
    assert(together.every(({ tokens, finish }) => (finish === "length" ? tokens === 20 : tokens <= 20)));
    assertEquals(result.correct, together.filter(({ correct }) => correct).length);
    assertEquals(result.unanswered, together.filter(({ prediction }) => prediction === null).length);
    assertEquals(result.accuracy, result.correct / 7);
    await json(...run, "--sequences", "1");
    assertEquals(readLines(out), together);
  });

  it("asks in the chat template with --chat, and an adapter with --adapter", async () => {
    const data = file("gsm.jsonl", lines([{ question: "How many?", answer: "#### 3" }]));
    const run = ["tasks", "--model", other.dir, "--task", "gsm8k", "--data", data, "--max-tokens", "40"];
    const out = join(dir, "one.jsonl");
    const answer = async (...more: string[]) => {
      const result = await json(...run, "--out", out, ...more);
      assertEquals([result.rows, typeof result.lastNumberAccuracy], [1, "number"]);
      return readLines(out)[0].response;
    };
    const plain = await answer();
    assert(plain !== (await answer("--chat")), "the template changed nothing");
    assert(plain !== (await answer("--adapter", dir)), "the adapter changed nothing");
    assertStringIncludes((await apiq(...run)).stdout, "by the last number");
  });

  it("names file and line of a bad row, and of one too long for the model, and writes no results", async () => {
    const out = join(dir, "none.jsonl");
    const run = (data: string) =>
      apiq("tasks", "--model", tiny.dir, "--task", "commonsense", "--data", data, "--out", out);
    const good = { instruction: "true or false?", answer: "true" };
    const bad = file("bad.jsonl", lines([good, { instruction: "?", answer: "perhaps" }]));
    const long = file("long.jsonl", lines([good, { ...good, instruction: "x".repeat(TINY_POSITIONS) }]));
    const refused = await run(bad);
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, `error: Cannot use ${bad}:2: "answer" received "perhaps"`);
    assertStringIncludes((await run(long)).stderr, `error: Cannot use ${long}:2: received `);
    assert(!existsSync(out));
  });
});

describe("an interrupted evaluation", () => {
  it("ends at once with one line, and without a file of results", async () => {
    const text = file("prose.txt", PROSE);
    const rows = file("questions.json", JSON.stringify(QUESTIONS));
    const choices = file("choices.jsonl", lines([{ text: "a", choices: ["b", "c"], label: 0 }]));
    const out = join(dir, "interrupted.jsonl");
    const interrupted = new AbortController();
    interrupted.abort();
    const commands = [
      ["ppl", "--data", text, "--window", "100"],
      ["kl", "--reference", other.dir, "--data", text, "--window", "100"],
      ["tasks", "--task", "arithmetic", "--data", rows, "--out", out],
      ["classify", "--data", choices, "--out", out],
    ];
    for (const command of commands) {
      const result = await run(interrupted.signal, ...command, "--model", tiny.dir);
      assertEquals(result, { code: 1, stdout: "", stderr: "error: Interrupted: there is no result\n" });
      assert(!existsSync(out));
    }
  });
});

describe("apiq eval classify", () => {
  it("chooses the likeliest, in sum and by character, and writes the likelihoods", async () => {
    const rows = [
      { text: "It was the best of", choices: ["times", "apples and pears", "a"], label: "times" },
      { text: "Once upon ", choices: ["a time", "two"], label: 1 },
    ];
    const data = file("choices.jsonl", lines(rows));
    const out = join(dir, "chosen.jsonl");
    const result = await json("classify", "--model", tiny.dir, "--data", data, "--out", out);
    const written = readLines(out);
    assertEquals(
      written.map(({ row, label }) => [row, label]),
      [
        [`${data}:1`, 0],
        [`${data}:2`, 1],
      ],
    );
    for (const [index, { logLikelihoods, plain, normalized }] of written.entries()) {
      const { text, choices } = rows[index];
      const best = (values: readonly number[]) => values.indexOf(Math.max(...values));
      assertEquals(plain, best(logLikelihoods));
      assertEquals(normalized, best(choices.map((choice, i) => logLikelihoods[i] / choice.length)));
      // The same sums from eval nll over the whole texts: bytes are tokens, and the seam is one space.
      const sequences = choices.map((choice) => [...new TextEncoder().encode(`${text.trimEnd()} ${choice}`)]);
      const tokens = file("choices.json", JSON.stringify({ sequences }));
      const { nll } = await json("nll", "--model", tiny.dir, "--tokens", tokens);
      for (const [i, nats] of (nll as number[][]).entries()) {
        const sum = nats.slice(text.trimEnd().length - 1).reduce((a, b) => a + b, 0);
        assertAlmostEquals(logLikelihoods[i], -sum, 1e-9);
      }
    }
    assertEquals(result.accuracy, written.filter(({ plain, label }) => plain === label).length / 2);
    assertEquals(result.normalizedAccuracy, written.filter(({ normalized, label }) => normalized === label).length / 2);
    assertStringIncludes((await apiq("classify", "--model", tiny.dir, "--data", data)).stdout, "of 2)");
  });

  it("names file, line and field of a bad row", async () => {
    const cases: readonly (readonly [object, string])[] = [
      [{ text: "a", choices: ["b"], label: 0 }, '"choices" received ["b"], expected at least two texts'],
      [{ text: "a", choices: ["b", " "], label: 0 }, "expected at least two texts"],
      [{ text: "a", choices: ["b", "c"], label: 2 }, '"label" received 2, expected a choice or its index, 0 to 1'],
      [{ text: "a", choices: ["b", "c"], label: "d" }, '"label" received "d"'],
      [{ text: "a", choices: ["b", "c"], label: null }, '"label" received null'],
      [{ choices: ["b", "c"], label: 0 }, '"text" received nothing, expected a text'],
    ];
    for (const [row, message] of cases) {
      const data = file("bad.jsonl", lines([{ text: "a", choices: ["b", "c"], label: 0 }, row]));
      const { code, stderr } = await apiq("classify", "--model", tiny.dir, "--data", data);
      assertEquals(code, 1);
      assertStringIncludes(stderr, `error: Cannot use ${data}:2: `);
      assertStringIncludes(stderr, message);
    }
  });
});

describe("apiq eval rouge", () => {
  it("scores each answer against its reference and gives the means", async () => {
    const rows = ["one", "two two", "three"].map((prompt) => ({ prompt, reference: `${prompt} x` }));
    const data = file("summaries.jsonl", lines(rows));
    const out = join(dir, "first.jsonl");
    const run = ["rouge", "--model", tiny.dir, "--data", data, "--max-tokens", "12", "--out", out];
    await json(...run);
    // An answer that is its own reference is perfect if it has two words or more, and one without words scores nothing.
    const answers = readLines(out).map(({ response }) => response as string);
    const perfect = lines(rows.map(({ prompt }, i) => ({ prompt, reference: `${answers[i]} ` })));
    const result = await json(
      "rouge",
      "--model",
      tiny.dir,
      "--data",
      file("perfect.jsonl", perfect),
      "--max-tokens",
      "12",
    );
    const words = answers.map((answer) => answer.toLowerCase().match(/[a-z0-9]+/g)?.length ?? 0);
    const share = (least: number) => words.filter((count) => count >= least).length / words.length;
    assertAlmostEquals(result.rouge1, share(1), 1e-12);
    assertAlmostEquals(result.rouge2, share(2), 1e-12);
    assertAlmostEquals(result.rougeL, share(1), 1e-12);
    assertEquals(result.rows, 3);
  });

  it("ends an answer before a stop text", async () => {
    const data = file("stop.jsonl", lines([{ prompt: "one", reference: "x" }]));
    const out = join(dir, "stopped.jsonl");
    const run = ["rouge", "--model", tiny.dir, "--data", data, "--max-tokens", "30", "--out", out];
    await json(...run);
    const [whole] = readLines(out);
    const stop = whole.response.slice(3, 5);
    await json(...run, "--stop", stop);
    const [stopped] = readLines(out);
    assertEquals(stopped.response, whole.response.slice(0, whole.response.indexOf(stop)));
    assertEquals(stopped.finish, "stop");
    assert(stopped.tokens < whole.tokens);
    assertEquals((await apiq(...run, "--stop", "")).code, 2);
  });
});
