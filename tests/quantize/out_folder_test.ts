/** Where a result may be written, and who may write there: nothing of a user's is ever lost, and no run is done for nothing. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { exportModel } from "../../runtime/export/export_model.ts";
import { bytesToWrite, checkSpace } from "../../runtime/quantize/disk_space.ts";
import { prepare, quantize } from "../../runtime/quantize/pipeline.ts";
import { planRun } from "../../runtime/quantize/plan.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { createTinyModel } from "../fixtures/tiny_model.ts";
import { RUNTIMES } from "../http/server_process.ts";
import { repositoryRoot } from "../shared.ts";
import { smallRun, temporaryFolder } from "./run.ts";

/** The message of a run into `out`, which begins nothing. */
async function refusal(source: string, folder: string, out: string): Promise<string> {
  const options = { ...smallRun(source, folder, "rtn"), out };
  const { message } = await assertRejects(() => quantize(options), Error);
  assertEquals((await assertRejects(() => planRun(options), Error)).message, message);
  assert(!message.includes("\n") && !existsSync(`${out}.partial`), message);
  return message;
}

describe("quantize refuses to write", () => {
  it("into its source, and does not advise to remove it", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const before = readdirSync(model.dir);
    for (const out of [model.dir, `${model.dir}/`, relative(process.cwd(), model.dir)]) {
      assertEquals(
        await refusal(model.dir, folder.dir, out),
        `Cannot write ${out}: it is the model that is read; give another --out`,
      );
    }
    const inside = join(model.dir, "a", "b");
    assertStringIncludes(await refusal(model.dir, folder.dir, inside), `it is inside the model ${model.dir}`);
    const link = join(folder.dir, "link");
    symlinkSync(model.dir, link);
    assertStringIncludes(await refusal(model.dir, folder.dir, join(link, "x")), "it is inside the model");
    assertEquals(readdirSync(model.dir), before);
  });

  it("where the result could not get its name at the end", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const file = join(folder.dir, "file");
    writeFileSync(file, "");
    assertStringIncludes(await refusal(model.dir, folder.dir, file), "it exists");
    assertStringIncludes(await refusal(model.dir, folder.dir, join(file, "x")), "what is to hold it is no folder");
    assertStringIncludes(await refusal(model.dir, folder.dir, ""), "--out is empty");
    mkdirSync(join(folder.dir, "empty"));
    for (const target of ["nowhere", "empty"]) {
      const link = join(folder.dir, `to-${target}`);
      symlinkSync(join(folder.dir, target), link);
      assertStringIncludes(await refusal(model.dir, folder.dir, link), "it is a symbolic link");
    }
    assertStringIncludes(await refusal(model.dir, folder.dir, "/proc"), "it exists");
  });

  it("over a finished model, and names what a killed run left beside it", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const { out } = await quantize(options);
    mkdirSync(`${out}.partial`);
    const { message } = await assertRejects(() => quantize(options), Error);
    assertStringIncludes(message, `${out}.partial is what is left of a run and can be removed`);
  });

  it("more than the disk holds", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const prepared = prepare(options);
    const needed = bytesToWrite(options, prepared, 0);
    assert(bytesToWrite(options, prepared, 1) < needed);
    const { modelBytes } = await quantize(options);
    assert(needed > modelBytes);
    const check = () => checkSpace(options.out, 500e12, "the blocks and the model");
    assertThrows(check, Error, "the blocks and the model take about 500 TB, and ");
  });
});

describe("a plan", () => {
  it("tells what the disk has to hold and what is free", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const { diskBytes, diskFreeBytes } = await planRun(smallRun(model.dir, folder.dir, "rtn"));
    assert(diskBytes > 16e6 && diskBytes < 17e6, `${diskBytes}`);
    assert(diskFreeBytes !== null && diskFreeBytes > 0);
  });
});

describe("an unfinished folder", () => {
  it("is one run's alone while that lasts", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    let second: Promise<Error> | undefined;
    await quantize(options, {
      onBlock: () => {
        second ??= assertRejects(() => quantize(options), Error);
      },
    });
    const { message } = await second!;
    assertEquals(
      message,
      `Cannot write ${options.out}.partial: process ${process.pid} is writing it; wait for it, or give another --out`,
    );
  });

  it("tells the time of all calls when it was continued", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const stop = new AbortController();
    const slow = {
      ...options.method,
      quantizeBlock: async (job: Parameters<typeof options.method.quantizeBlock>[0]) => {
        if (job.layer === 0) await setTimeout(700);
        return await options.method.quantizeBlock(job);
      },
    };
    const first = { ...options, method: slow, signal: stop.signal };
    await assertRejects(() => quantize(first, { onBlock: () => stop.abort() }), Error);
    const { seconds, blocks } = await quantize(options);
    assert(seconds > blocks[0]!.seconds && blocks[0]!.seconds > 0.7, `${seconds}`);
  });
});

for (const runtime of RUNTIMES) {
  describe(`apiq quantize under ${runtime}`, () => {
    it("locks its folder against another process, and not beyond kill -9", async () => {
      using model = await createDenseModel({ layers: 3 });
      using folder = temporaryFolder();
      const { out, calibration } = smallRun(model.dir, folder.dir, "apiq-bw");
      const flags = ["--out", out, "--method", "apiq-bw", "--data", `${calibration.data}`, "--samples", "3"];
      const command = ["quantize", model.dir, ...flags, "--seq-len", "48", "--rank", "8", "--epochs", "40"];
      const environment = { ...process.env, APIQ_RUNTIME: runtime };
      const script = `${repositoryRoot}scripts/apiq`;
      const child = spawn(script, command, { stdio: "ignore", env: environment });
      const ended = once(child, "exit");
      const block = join(`${out}.partial`, "block-000.safetensors");
      while (!existsSync(block) && child.exitCode === null) await setTimeout(5);
      process.kill(child.pid!, "SIGSTOP");
      const second = spawnSync(script, command, { encoding: "utf8", env: environment });
      process.kill(child.pid!, "SIGKILL");
      await ended;
      assertEquals(second.status, 1);
      assertEquals(
        second.stderr,
        `error: Cannot write ${out}.partial: process ${child.pid} is writing it; wait for it, or give another --out\n`,
      );
      rmSync(block);
      const third = spawnSync(script, [...command.slice(0, -1), "1"], { encoding: "utf8", env: environment });
      assertEquals(third.status, 0, third.stderr);
    });
  });
}

describe("export refuses to write", () => {
  it("over the model that it reads or into it, forced or not, and checks that in a dry run too", async () => {
    using model = await createTinyModel();
    using folder = temporaryFolder();
    const weights = readFileSync(join(model.dir, "model.safetensors"));
    for (const dryRun of [false, true]) {
      const run = (out: string, force: boolean) => () =>
        exportModel({ model: model.dir, out, dtype: "float16", force, dryRun });
      await assertRejects(run(model.dir, true), Error, "it is the model that is read");
      await assertRejects(run(join(model.dir, "sub"), false), Error, "it is inside the model");
      await assertRejects(run("", true), Error, "--out is empty");
      await assertRejects(run(folder.dir, false), Error, "it exists");
    }
    assertEquals(readFileSync(join(model.dir, "model.safetensors")), weights);
  });
});
