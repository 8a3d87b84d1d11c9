/** `scripts/apiq quantize` as a user calls it. */
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { METHODS } from "../../runtime/quantize/registry.ts";
import { calibrationText, createDenseModel } from "../fixtures/dense_model.ts";
import { logitsOf } from "../golden/load.ts";
import { RUNTIMES, runApiq } from "../http/server_process.ts";
import { open, temporaryFolder } from "./run.ts";

for (const runtime of RUNTIMES) {
  describe(`apiq quantize under ${runtime}`, () => {
    const run = (...args: string[]) => runApiq(runtime, ["quantize", ...args]);

    it("makes a folder that the engine loads, and prints what it made", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const out = join(folder.dir, "made");
      const data = join(folder.dir, "data.txt");
      writeFileSync(data, calibrationText(400));
      const small = ["--samples", "2", "--seq-len", "32", "--rank", "4", "--epochs", "1", "--no-aug-loss", "--json"];
      const { code, stdout, stderr } = await run(
        model.dir,
        "--out",
        out,
        "--method",
        "apiq-bw",
        "--data",
        data,
        ...small,
      );
      assertEquals(code, 0, stderr);
      const made = JSON.parse(stdout);
      assertEquals([made.out, made.blocks], [out, 2]);
      assert(made.bitsPerWeight > 2 && made.bitsPerWeight < 4, `${made.bitsPerWeight}`);
      assertEquals(stderr.split("\n").filter((line) => line.startsWith("block ")).length, 2);
      using loaded = open(out);
      assert(logitsOf(loaded, [1, 2, 3]).every(Number.isFinite));
    });

    it("lists every method in its help", async () => {
      const { stdout } = await run("--help");
      for (const { name, summary } of METHODS) assertStringIncludes(stdout, `  ${name.padEnd(10)} ${summary}\n`);
    });

    it("with --dry-run tells blocks, memory and time, and writes nothing", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const data = join(folder.dir, "data.txt");
      writeFileSync(data, calibrationText(400));
      const args = [
        model.dir,
        "--out",
        join(folder.dir, "out"),
        "--method",
        "apiq-bw",
        "--data",
        data,
        "--seq-len",
        "32",
        "--dry-run",
      ];
      const plan = JSON.parse((await run(...args, "--json")).stdout);
      assertEquals([plan.blocks, plan.linears, plan.calibration.samples], [2, 14, 12]);
      assertEquals(plan.weights, 2 * (128 * 128 * 2 + 64 * 128 * 2 + 3 * 128 * 256));
      const streams = plan.memory.find(({ part }: { part: string }) => part === "calibration streams");
      // Three of the run, and the second targets of --aug-loss.
      assertEquals(streams.bytes, 4 * 12 * 32 * 128 * 4);
      assert(plan.seconds > 0);
      const { code, stdout, stderr } = await run(...args, "--stream-dir", folder.dir);
      assertEquals(code, 0, stderr);
      for (const text of [
        "a block in float32",
        "apiq-bw on a block",
        "of calibration streams",
        "measured on the first",
      ]) {
        assertStringIncludes(stdout, text);
      }
      assertEquals(readdirSync(folder.dir), ["data.txt"]);
    });

    it("ends with 2 for flags that do not go together, and names them", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const out = join(folder.dir, "out");
      const mistakes: readonly (readonly [args: string[], message: string])[] = [
        [[], "expected either --method NAME or --quantizer FILE.ts"],
        [["--method", "rtn", "--quantizer", "x.ts"], "expected either --method NAME or --quantizer FILE.ts"],
        [["--method", "gtpq"], "(did you mean gptq?)"],
        [["--method", "rtn", "--bits", "5"], "Cannot use --bits: received 5, expected 2, 3, 4, 8"],
        [["--method", "rtn", "--group-size", "48"], "Cannot use --group-size: received 48"],
        [["--method", "nf4", "--bits", "2"], "Cannot use --bits with nf4: received 2, expected 4"],
        [["--method", "gptq", "--dora"], "Cannot use --dora with gptq: it is for apiq-bw, apiq-lw, block-ap"],
        [["--method", "fine", "--init-from", "x"], "Cannot use --init-from with fine: it is for omniquant, apiq-bw,"],
        [["--method", "loftq", "--alpha", "8"], "Cannot use --alpha with loftq"],
        [["--method", "apiq-bw", "--weight-lr", "1"], "Cannot use --weight-lr with apiq-bw: it is for block-ap\n"],
        [["--method", "rtn", "--no-aug-loss"], "Cannot use --aug-loss with rtn"],
        [["--method", "apiq-bw", "--dora", "--rank", "0"], "Cannot use --dora: received --rank 0, expected a rank"],
        [["--method", "rtn", "--embed-bits", "2"], "Cannot use --embed-bits: received 2, expected 16, 8, 4"],
      ];
      for (const [args, message] of mistakes) {
        const { code, stdout, stderr } = await run(model.dir, "--out", out, ...args);
        assertEquals([code, stdout], [2, ""], args.join(" "));
        assertStringIncludes(stderr, message);
      }
      assert(!existsSync(out) && !existsSync(`${out}.partial`));
    });

    it("ends with 1 and one line where a run cannot begin", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const { code, stderr } = await run(model.dir, "--out", join(folder.dir, "out"), "--method", "gptq");
      assertEquals([code, stderr], [1, "error: Cannot run gptq without calibration data: give --data FILE\n"]);
    });
  });
}
