/** A run that is stopped, however, continues behind its last finished block and ends with the same bytes. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type QuantizeOptions, quantize } from "../../runtime/quantize/pipeline.ts";
import { startCommand, stopWhen } from "../command_process.ts";
import { createDenseModel, type DenseModel } from "../fixtures/dense_model.ts";
import { RUNTIMES, type Runtime } from "../http/server_process.ts";
import { smallRun, temporaryFolder } from "./run.ts";

/** All files under a folder with their bytes, but for the two that tell times. */
function contents(dir: string): Map<string, Uint8Array> {
  const names = (readdirSync(dir, { recursive: true }) as string[]).sort();
  const files = names.filter((name) => statSync(join(dir, name)).isFile());
  return new Map(
    files
      .filter((name) => name !== "quantize.jsonl" && name !== "report.html")
      .map((name) => [name, new Uint8Array(readFileSync(join(dir, name)))]),
  );
}

function assertSameModel(a: string, b: string): void {
  const [left, right] = [contents(a), contents(b)];
  assertEquals([...left.keys()], [...right.keys()]);
  for (const [name, bytes] of left)
    assert(
      bytes.every((byte, i) => byte === right.get(name)![i]),
      name,
    );
}

/** Runs until block `layer` is finished, then stops. */
async function runUntil(options: QuantizeOptions, layer: number): Promise<void> {
  const stop = new AbortController();
  const events = { onBlock: (record: { layer: number }) => record.layer === layer && stop.abort() };
  await assertRejects(() => quantize({ ...options, signal: stop.signal }, events), Error);
}

describe("an interrupted run", () => {
  for (const method of ["rtn", "gptq", "apiq-bw"]) {
    it(`${method}: continues to the bytes of one that was not`, async () => {
      using model = await createDenseModel({ layers: 3 });
      using folder = temporaryFolder();
      const options = smallRun(model.dir, folder.dir, method);
      const whole = await quantize({ ...options, out: join(folder.dir, "whole") });
      await runUntil(options, 0);
      await runUntil(options, 1);
      let resumed = 0;
      const result = await quantize(options, { onResume: (finished) => (resumed = finished) });
      assertEquals(resumed, 2);
      assertEquals(result.blocks.length, 3);
      assertSameModel(result.out, whole.out);
    });
  }

  it("is refused by name with other settings, another source or other data", async () => {
    using model = await createDenseModel();
    using other = await createDenseModel({ seed: 2 });
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "apiq-bw");
    await runUntil(options, 0);
    const refusal = async (changed: Partial<QuantizeOptions>) =>
      (await assertRejects(() => quantize({ ...options, ...changed }), Error)).message;
    const settings = { ...options.settings, rank: 4, bits: 3 } as const;
    assertStringIncludes(await refusal({ settings }), "begun with bits 2 instead of 3; rank 8 instead of 4");
    assertStringIncludes(await refusal({ source: other.dir }), "begun with source ");
    const data = join(folder.dir, "other.txt");
    writeFileSync(data, "quite different ".repeat(50));
    assertStringIncludes(await refusal({ calibration: { ...options.calibration, data } }), "begun with data ");
    assertStringIncludes(await refusal({ keep: ["model.layers.0.mlp.up_proj"] }), "begun with keep [] instead of");
    await quantize(options);
  });

  it("continues where it was stopped while the model was put together", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const whole = await quantize({ ...options, out: join(folder.dir, "whole") });
    const stop = new AbortController();
    const onAssemble = (done: number) => done === 7 && stop.abort();
    await assertRejects(() => quantize({ ...options, signal: stop.signal }, { onAssemble }), Error);
    assert(!existsSync(options.out));
    let resumed = 0;
    const result = await quantize(options, { onResume: (finished) => (resumed = finished) });
    assertEquals(resumed, 2);
    assertSameModel(result.out, whole.out);
  });

  it("makes a block again whose file is damaged", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const whole = await quantize({ ...options, out: join(folder.dir, "whole") });
    await runUntil(options, 0);
    writeFileSync(join(`${options.out}.partial`, "block-000.safetensors"), "half a file");
    let resumed = 0;
    const result = await quantize(options, { onResume: (finished) => (resumed = finished) });
    assertEquals(resumed, 0);
    assertSameModel(result.out, whole.out);
  });
});

describe("a finished folder", () => {
  it("is never overwritten", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    const { out } = await quantize(options);
    const before = contents(out);
    await assertRejects(() => quantize(options), Error, `Cannot write ${out}: it exists`);
    assertEquals(contents(out), before);
  });

  it("does not take the place of files that no run began", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn");
    await quantize({ ...options, out: join(folder.dir, "foreign.partial") });
    rmSync(join(folder.dir, "foreign.partial", "quantize.jsonl"));
    await assertRejects(
      () => quantize({ ...options, out: join(folder.dir, "foreign") }),
      Error,
      "no run of apiq quantize",
    );
  });
});

for (const runtime of RUNTIMES) {
  describe(`apiq quantize under ${runtime}`, () => {
    for (const [name, signal, said] of [
      ["kill -9", "SIGKILL", ""],
      ["Ctrl-C", "SIGINT", "Stopped. Finished blocks are kept in "],
    ] as const) {
      it(`continues after ${name} in the middle of a block`, async () => {
        using model = await createDenseModel({ layers: 3 });
        using folder = temporaryFolder();
        const options = smallRun(model.dir, folder.dir, "apiq-bw", { epochs: 6 });
        const whole = await quantize({ ...options, out: join(folder.dir, "whole") });
        assertStringIncludes(await stopped(runtime, model, options, signal), said);
        assert(!existsSync(options.out) && existsSync(join(`${options.out}.partial`, "block-000.safetensors")));
        const { code: finished, errors } = await command(runtime, model, options).done;
        assertEquals(finished, 0, errors);
        assertStringIncludes(errors, "of 3 blocks are finished");
        assertSameModel(options.out, whole.out);
      });
    }
  });
}

/** Sends `signal` when the first block is there; gives what the process printed. */
function stopped(runtime: Runtime, model: DenseModel, options: QuantizeOptions, signal: NodeJS.Signals) {
  const block = join(`${options.out}.partial`, "block-000.safetensors");
  return stopWhen(command(runtime, model, options), signal, () => existsSync(block));
}

function command(runtime: Runtime, model: DenseModel, { out, calibration, settings, method }: QuantizeOptions) {
  return startCommand(runtime, ["quantize", model.dir], {
    out,
    method: method.name,
    data: calibration.data,
    samples: calibration.samples,
    "seq-len": calibration.length,
    bits: settings.bits,
    "group-size": settings.group,
    rank: settings.rank,
    alpha: settings.alpha,
    epochs: settings.epochs,
    threads: 2,
  });
}
