/** `finetune --compute bf16`: whole runs beside the same in float32. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Context } from "../../ffi/mod.ts";
import { finetune } from "../../runtime/finetune/finetune.ts";
import type { FinetuneOptions } from "../../runtime/finetune/options.ts";
import type { FinetuneSettings } from "../../runtime/finetune/settings.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { packed, readLog, smallOptions, temporaryFolder } from "./run.ts";

/** Losses of all steps, and what the run told. */
async function run(model: string, given: Partial<FinetuneSettings>, more: Partial<FinetuneOptions> = {}) {
  using folder = temporaryFolder();
  const notes: string[] = [];
  const { out } = await finetune(smallOptions(model, folder.dir, given, more), { onNote: (note) => notes.push(note) });
  return { losses: readLog(out).map(({ loss }) => loss), notes };
}

describe("finetune in bfloat16", () => {
  it("follows float32 within 1 % of the loss at every step, and says where it is not fast", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    using context = Context.open();
    const fast = context.describe().isa === "avx512bf16";
    const [exact, rounded] = [await run(model, {}), await run(model, { compute: "bf16" })];
    for (const [step, loss] of exact.losses.entries()) {
      const off = Math.abs(rounded.losses[step]! / loss - 1);
      assert(off > 0 && off < 0.01, `step ${step}: ${rounded.losses[step]}, expected about ${loss}`);
    }
    assert(exact.losses.at(-1)! < exact.losses[0]! - 1);
    assertEquals(rounded.notes.filter((note) => note.includes("AVX-512 BF16")).length, fast ? 0 : 1);
  });

  it("asks the teacher in bfloat16, too", async () => {
    using dense = await createDenseModel();
    using folder = temporaryFolder();
    const model = await packed(dense.dir, folder.dir, "rtn");
    const given = { objective: "distill", epochs: 1 } as const;
    const [exact, rounded] = [
      await run(model, given, { teacher: dense.dir }),
      await run(model, { ...given, compute: "bf16" }, { teacher: dense.dir }),
    ];
    for (const [step, loss] of exact.losses.entries()) {
      const off = Math.abs(rounded.losses[step]! / loss - 1);
      assert(off > 0 && off < 0.03, `step ${step}: ${rounded.losses[step]}, expected about ${loss}`);
    }
  });
});
