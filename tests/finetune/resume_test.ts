/** A run that is stopped, however, continues from its last state and ends with the same bytes. */
import { Buffer } from "node:buffer";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { finetune } from "../../runtime/finetune/finetune.ts";
import type { FinetuneOptions } from "../../runtime/finetune/options.ts";
import { startCommand, stopWhen } from "../command_process.ts";
import { createDenseModel, type DenseModel } from "../fixtures/dense_model.ts";
import { RUNTIMES, type Runtime } from "../http/server_process.ts";
import { contents, numbersOf, packed, readLog, smallOptions, temporaryFolder } from "./run.ts";

function assertSameResult(a: string, b: string): void {
  const [left, right] = [contents(a), contents(b)];
  assertEquals([...left.keys()], [...right.keys()]);
  for (const [name, bytes] of left) assert(Buffer.from(bytes).equals(right.get(name)!), name);
  assertEquals(numbersOf(readLog(a)), numbersOf(readLog(b)));
}

/** Runs until step `last` is made, then stops. */
async function runUntil(options: FinetuneOptions, last: number): Promise<void> {
  const stop = new AbortController();
  const onStep = ({ step }: { step: number }) => step === last && stop.abort();
  await assertRejects(() => finetune({ ...options, signal: stop.signal }, { onStep }), Error);
}

describe("an interrupted run", () => {
  it("continues to the bytes of one that was not, with validation, dropout, DoRA and a packed base", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const validation = { file: null, holdOut: 4, every: 2 };
    const lora = { rank: 4, alpha: 8, dora: true };
    const options = smallOptions(model, folder.dir, { dropout: 0.2 }, { validation, lora, saveEvery: 1 });
    const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
    for (const step of [1, 3, 4]) await runUntil(options, step);
    let resumed = 0;
    const result = await finetune(options, { onResume: (step) => (resumed = step) });
    assertEquals(resumed, 4);
    assertSameResult(result.out, whole.out);
  });

  it("continues from the last state where later steps were lost, and writes their lines once", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallOptions(model.dir, folder.dir, {}, { saveEvery: 3 });
    const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
    await runUntil(options, 4);
    const dir = `${options.out}.partial`;
    const state = readFileSync(join(dir, "checkpoint.safetensors"));
    await runUntil(options, 6);
    // As after a kill behind step 6 with the state of step 4.
    writeFileSync(join(dir, "checkpoint.safetensors"), state);
    writeFileSync(join(dir, "train.jsonl"), `${readFileSync(join(dir, "train.jsonl"), "utf8")}{"type":"step","st`);
    let resumed = 0;
    const result = await finetune(options, { onResume: (step) => (resumed = step) });
    assertEquals(resumed, 4);
    assertSameResult(result.out, whole.out);
  });

  it("ends with the best values, whichever call found them", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    // The rate is so high that validation soon becomes worse.
    const validation = { file: null, holdOut: 4, every: 1 };
    const options = smallOptions(model.dir, folder.dir, { learningRate: 0.3, epochs: 3 }, { validation, saveEvery: 1 });
    const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
    assert(whole.best!.step < whole.steps);
    await runUntil(options, whole.best!.step + 1);
    const result = await finetune(options);
    assertEquals(result.best, whole.best);
    assertSameResult(result.out, whole.out);
  });

  it("is refused by name with other settings, another model, other data or another start", async () => {
    using model = await createDenseModel();
    using other = await createDenseModel({ seed: 2 });
    using folder = temporaryFolder();
    const options = smallOptions(model.dir, folder.dir);
    await runUntil(options, 2);
    const refusal = async (changed: Partial<FinetuneOptions>) =>
      (await assertRejects(() => finetune({ ...options, ...changed }), Error)).message;
    const settings = { ...options.settings, learningRate: 1e-3, seed: 5 };
    assertStringIncludes(
      await refusal({ settings }),
      "begun with learningRate 0.003 instead of 0.001; seed 0 instead of 5",
    );
    assertStringIncludes(await refusal({ model: other.dir }), "begun with model ");
    const file = join(folder.dir, "other.txt");
    writeFileSync(file, "quite different ".repeat(50));
    assertStringIncludes(
      await refusal({ data: { ...options.data, files: [{ file, amount: null }] } }),
      "begun with data ",
    );
    assertStringIncludes(await refusal({ lora: { rank: 8 } }), "begun with rank 4 instead of 8");
    await finetune(options);
  });

  it("is refused where another process writes the folder, and where files are no run's", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallOptions(model.dir, folder.dir);
    let said = "";
    const onStep = async () => {
      said = (await assertRejects(() => finetune(options), Error)).message;
    };
    const refused: Promise<void>[] = [];
    await finetune(options, { onStep: ({ step }) => step === 1 && refused.push(onStep()) });
    await Promise.all(refused);
    assertStringIncludes(said, `process ${process.pid} is writing it`);
    const out = join(folder.dir, "data");
    writeFileSync(join(folder.dir, "data"), "");
    await assertRejects(() => finetune({ ...options, out }), Error, `Cannot write ${out}: it exists`);
    const foreign = join(folder.dir, "foreign");
    await finetune({ ...options, out: `${foreign}.partial` });
    const { message } = await assertRejects(() => finetune({ ...options, out: foreign }), Error);
    assertStringIncludes(message, `Cannot write ${foreign}.partial: it holds `);
  });
});

for (const runtime of RUNTIMES) {
  describe(`apiq finetune under ${runtime}`, () => {
    for (const [name, signal, after] of [
      ["kill -9 in the first step", "SIGKILL", 0],
      ["kill -9 in a later step", "SIGKILL", 3],
      ["Ctrl-C", "SIGINT", 2],
    ] as const) {
      it(`continues after ${name}`, async () => {
        using model = await createDenseModel({ layers: 3 });
        using folder = temporaryFolder();
        const options = smallOptions(model.dir, folder.dir, { epochs: 3 }, { saveEvery: 1 });
        const whole = await finetune({ ...options, out: join(folder.dir, "whole") });
        const errors = await stopped(runtime, model, options, signal, after);
        if (signal === "SIGINT") assertStringIncludes(errors, "Stopped. The state is kept in ");
        assert(!existsSync(options.out));
        const { code, errors: said } = await command(runtime, model, options).done;
        assertEquals(code, 0, said);
        if (after > 0) assertStringIncludes(said, "of 12 steps are made");
        assertSameResult(options.out, whole.out);
        assertEquals(readdirSync(folder.dir).sort(), ["data.txt", "out", "whole"]);
      });
    }
  });
}

/** Sends `signal` when step `after` is in the log; gives what the process printed. */
function stopped(
  runtime: Runtime,
  model: DenseModel,
  options: FinetuneOptions,
  signal: NodeJS.Signals,
  after: number,
): Promise<string> {
  const log = join(`${options.out}.partial`, "train.jsonl");
  const made = (): number => (existsSync(log) ? readFileSync(log, "utf8").split('"type":"step"').length - 1 : -1);
  return stopWhen(command(runtime, model, options), signal, () => made() >= after);
}

function command(runtime: Runtime, model: DenseModel, { out, data, settings, lora }: FinetuneOptions) {
  return startCommand(runtime, ["finetune", model.dir], {
    out,
    data: data.files[0]!.file,
    "seq-len": settings.length,
    epochs: settings.epochs,
    "batch-size": settings.batchSize,
    lr: settings.learningRate,
    warmup: settings.warmup,
    rank: lora.rank,
    alpha: lora.alpha,
    "save-every": 1,
    threads: 1,
  });
}
