/** `scripts/apiq finetune` as a user calls it. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint } from "../../runtime/formats/mod.ts";
import { calibrationText, createDenseModel } from "../fixtures/dense_model.ts";
import { RUNTIMES, runApiq } from "../http/server_process.ts";
import { LENGTH, packed, temporaryFolder } from "./run.ts";

const SMALL = ["--seq-len", `${LENGTH}`, "--batch-size", "4", "--epochs", "1", "--rank", "4", "--threads", "1"];

function dataFile(folder: string): string {
  const file = join(folder, "data.txt");
  writeFileSync(file, calibrationText(16 * LENGTH));
  return file;
}

for (const runtime of RUNTIMES) {
  describe(`apiq finetune under ${runtime}`, () => {
    const run = (...args: string[]) => runApiq(runtime, ["finetune", ...args]);

    it("makes an adapter, says what it did and how to serve it", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const out = join(folder.dir, "out");
      const args = [model.dir, "--data", dataFile(folder.dir), "--out", `${out}/`, "--val", "0.25", ...SMALL];
      const { code, stdout, stderr } = await run(...args);
      assertEquals(code, 0, stderr);
      assertStringIncludes(stderr, "validation before the first step: loss ");
      assertStringIncludes(stderr, "step 3/3, epoch 1/1: loss ");
      assertStringIncludes(stderr, "tokens/s");
      assertStringIncludes(stdout, `${out}: 3 steps, `);
      assertStringIncludes(stdout, "which is kept");
      assertStringIncludes(stdout, `Next: apiq serve --model ${model.dir} --adapter NAME=${out}\n`);
      const page = readFileSync(join(out, "report.html"), "utf8");
      for (const text of ["Learning rate", "Gradient norm", "Validation", "--lr", "</html>"]) {
        assertStringIncludes(page, text);
      }
    });

    it("with --json prints the result alone", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const out = join(folder.dir, "out");
      const { code, stdout, stderr } = await run(
        model.dir,
        "--data",
        dataFile(folder.dir),
        "--out",
        out,
        "--json",
        ...SMALL,
      );
      assertEquals(code, 0, stderr);
      const { steps, kind, parameters, best } = JSON.parse(stdout);
      assertEquals([steps, kind, best], [4, "adapter", null]);
      assertEquals(parameters, 2 * 4 * (2 * (128 + 128) + 2 * (64 + 128) + 3 * (256 + 128)));
    });

    it("trains on chats, instructions and questions, and leaves bad rows out where it is told to", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const rows = [
        {
          messages: [
            { role: "user", content: "ping" },
            { role: "assistant", content: "pong" },
          ],
        },
        {
          messages: [
            { role: "user", content: "a" },
            { role: "assistant", content: "b" },
          ],
        },
      ].map((row) => JSON.stringify(row));
      const data = join(folder.dir, "chats.jsonl");
      writeFileSync(data, [rows[0], "{no json", rows[1]].join("\n"));
      const out = join(folder.dir, "out");
      const args = [model.dir, "--data", data, "--out", out, ...SMALL];
      const refused = await run(...args);
      assertEquals(refused.code, 1);
      assertStringIncludes(refused.stderr, `${data}:2`);
      const { code, stderr } = await run(...args, "--bad-rows", "skip");
      assertEquals(code, 0, stderr);
      assertStringIncludes(stderr, `1 row of ${data} left out, as asked; the first: Cannot read ${data}:2`);
      assertStringIncludes(readFileSync(join(out, "train.jsonl"), "utf8"), '"type":"skipped"');
    });

    it("with --dry-run tells steps, memory and time, and writes nothing", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const args = [model.dir, "--data", dataFile(folder.dir), "--out", join(folder.dir, "out"), "--dry-run", ...SMALL];
      const plan = JSON.parse((await run(...args, "--val", "4", "--json")).stdout);
      assertEquals([plan.examples, plan.validationExamples, plan.steps, plan.start], [12, 4, 3, "zero"]);
      assertEquals(plan.batch, { sequences: 1, length: LENGTH });
      assert(plan.seconds > 0 && plan.memoryBytes > 1e7 && plan.memory.length > 5);
      const { code, stdout, stderr } = await run(...args);
      assertEquals(code, 0, stderr);
      for (const text of ["16 examples (text), ", "measured on one batch", "optimizer state", "a step"]) {
        assertStringIncludes(stdout, text);
      }
      assertEquals(readdirSync(folder.dir), ["data.txt"]);
    });

    it("trains on several files, of each in its own format and as much as is asked for", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const rows = join(folder.dir, "rows.jsonl");
      const questions = Array.from({ length: 9 }, (_, i) => JSON.stringify({ question: `${i}?`, answer: "1" }));
      writeFileSync(rows, questions.join("\n"));
      const text = dataFile(folder.dir);
      const files = ["--data", `${rows}@4`, "--data", text];
      const args = [model.dir, ...files, "--out", join(folder.dir, "out"), "--dry-run", ...SMALL];
      const plan = JSON.parse((await run(...args, "--json")).stdout);
      assertEquals(plan.files, [
        { file: rows, format: "gsm8k", examples: 4 },
        { file: text, format: "text", examples: 16 },
      ]);
      const { stdout } = await run(...args);
      for (const line of ["20 examples (gsm8k, text), ", `  4 of ${rows}\n`]) assertStringIncludes(stdout, line);
    });

    it("ends with 2 for flags that do not go together, and names them", async () => {
      using dense = await createDenseModel();
      using folder = temporaryFolder();
      const model = await packed(dense.dir, folder.dir, "apiq-bw", { rank: 8, alpha: 8 });
      const out = join(folder.dir, "out");
      const mistakes: readonly (readonly [args: string[], message: string])[] = [
        [["--recipe", "gsm9k"], "(did you mean gsm8k?)"],
        [["--format", "csv"], 'Cannot read --format: received "csv", expected one of auto, chat'],
        [["--val", "1.5"], "Cannot use --val: received 1.5, expected a share below 1 or a whole number"],
        [["--val", "0.1", "--val-data", "x"], "expected --val or --val-data, not both"],
        [["--eval-every", "5"], "Cannot use --eval-every without --val or --val-data"],
        [["--objective", "distill"], "expected --objective distill and --teacher DIR together"],
        [["--objective", "sft", "--teacher", "x"], "expected --objective distill and --teacher DIR together"],
        [["--temperature", "2"], "Cannot use --temperature without --objective distill"],
        [["--targets", "head"], 'Cannot use --targets: received "head", expected some of all, attention'],
        [
          ["--seq-len", "4096"],
          "Cannot use --seq-len: received 4096, expected at most 1024, which the model was made for",
        ],
        [["--rank", "4"], "Cannot use --rank: received 4, expected 8 as the model's calibrated LoRA has"],
        [["--dora"], "Cannot use --dora: received true, expected false as the model's calibrated LoRA has"],
        [["--lr", "-1"], "Cannot use --lr: received -1, expected at least 0"],
        [["--start", "zero", "--rank", "0"], "Cannot use --rank: received 0, expected a whole number, at least 1"],
        [["--start", "zero", "--train-scales"], "Cannot use --train-scales with --start zero"],
        [["--start", "zero", "--train-weights"], "Cannot use --train-weights with --start zero"],
        [["--weight-lr", "1e-4"], "Cannot use --weight-lr without --train-weights"],
        [["--weights-from", "x"], "Cannot use --weights-from without --train-weights"],
        [["--data", "x@0"], "Cannot use --data x@0: received 0, expected a share below 1 or a whole number"],
      ];
      for (const [args, message] of mistakes) {
        const { code, stdout, stderr } = await run(model, "--data", dataFile(folder.dir), "--out", out, ...args);
        assertEquals([code, stdout], [2, ""], `${args.join(" ")}: ${stderr}`);
        assertStringIncludes(stderr, message);
      }
      assert(!existsSync(out) && !existsSync(`${out}.partial`));
    });

    it("ends with 1 and one line where a run cannot begin", async () => {
      using model = await createDenseModel();
      using other = await createDenseModel({ seed: 2 });
      using folder = temporaryFolder();
      const [data, out] = [dataFile(folder.dir), join(folder.dir, "out")];
      const made = await run(
        other.dir,
        "--data",
        data,
        "--out",
        join(folder.dir, "other"),
        "--max-steps",
        "1",
        ...SMALL,
      );
      assertEquals(made.code, 0, made.stderr);
      const both = [model.dir, other.dir].map((dir) => openCheckpoint(dir).fingerprint);
      const mistakes: readonly (readonly [flags: Record<string, string>, message: string])[] = [
        [{ start: "init" }, `Cannot start from init: ${model.dir} has no calibrated LoRA; give --start zero or an`],
        [
          { start: "nowhere" },
          "Cannot start from nowhere: it does not exist, expected init, zero or an adapter's folder",
        ],
        [
          { start: join(folder.dir, "other") },
          `the adapter was trained on another model, received ${both[1]}, expected ${both[0]}`,
        ],
        [{ out: model.dir }, `Cannot write ${model.dir}: it is the model that is read`],
        [{ data: join(folder.dir, "none") }, "none"],
        [{ val: "16" }, "Cannot hold out 16 examples for validation"],
        [{ teacher: folder.dir }, "config.json"],
      ];
      for (const [changed, message] of mistakes) {
        const flags = Object.entries({ data, out, "seq-len": `${LENGTH}`, ...changed });
        const { code, stdout, stderr } = await run(
          model.dir,
          ...flags.flatMap(([flag, value]) => [`--${flag}`, value]),
        );
        assertEquals([code, stdout], [1, ""], stderr);
        assertStringIncludes(stderr, message);
        assertEquals(stderr.trim().split("\n").length, 1, stderr);
      }
      assert(!existsSync(out));
    });
  });
}
