/** `--quantizer FILE.ts`: quantizers of the user's own. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { openCheckpoint, readTensor } from "../../runtime/formats/mod.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { loadUserQuantizer } from "../../runtime/quantize/user_quantizer.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { logitsOf } from "../golden/load.ts";
import { RUNTIMES, runApiq } from "../http/server_process.ts";
import { repositoryRoot } from "../shared.ts";
import { open, smallRun, temporaryFolder } from "./run.ts";

const EXAMPLE = `${repositoryRoot}scripts/recipes/mse_search_quantizer.ts`;

/** Signs times the mean magnitude of each row: a format that no storage family holds. */
const SIGNS = `export default {
  name: "signs",
  quantize: (values, { outFeatures, inFeatures }) => {
    const signs = Int8Array.from(values, Math.sign);
    const means = new Float32Array(outFeatures);
    for (let i = 0; i < values.length; i++) means[Math.floor(i / inFeatures)] += Math.abs(values[i]) / inFeatures;
    const dequantize = ({ signs, means }) => Float32Array.from(signs, (sign, i) => sign * means[Math.floor(i / inFeatures)]);
    return { tensors: { signs, means }, dequantize };
  },
};`;

describe("a user's quantizer", () => {
  it("that yields the affine family is packed, and better than rtn where it searches for it", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const options = smallRun(model.dir, folder.dir, "rtn", { bits: 3 });
    const rtn = await quantize({ ...options, out: join(folder.dir, "rtn") });
    const method = await loadUserQuantizer(EXAMPLE);
    const own = await quantize({ ...options, method, methodFile: EXAMPLE });
    assertEquals(openCheckpoint(own.out).quantization, openCheckpoint(rtn.out).quantization);
    const error = (result: typeof own) =>
      result.blocks.flatMap(({ linears }) => Object.values(linears).map((l) => l.error));
    assert(error(own).every((value, i) => value < error(rtn)[i]!));
    using loaded = open(own.out);
    assert(logitsOf(loaded, [1, 2, 3]).every(Number.isFinite));
  });

  it("that yields a dequantise function is stored in 16 bits, with the values it gives", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const file = join(folder.dir, "signs.ts");
    writeFileSync(file, SIGNS);
    const method = await loadUserQuantizer(file);
    const { out } = await quantize({ ...smallRun(model.dir, folder.dir, "rtn"), method, methodFile: file });
    const after = openCheckpoint(out);
    assertEquals(after.quantization, undefined);
    const stored = readTensor(after.tensor("model.layers.0.mlp.up_proj.weight", { dtype: "F16", shape: [256, 128] }));
    assertEquals(new Set(stored.subarray(0, 128).map(Math.abs)).size, 1);
    using loaded = open(out);
    assert(logitsOf(loaded, [1, 2, 3]).every(Number.isFinite));
  });

  it("that changes is not continued with", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const file = join(folder.dir, "mine.ts");
    writeFileSync(file, SIGNS);
    const method = await loadUserQuantizer(file);
    const options = { ...smallRun(model.dir, folder.dir, "rtn"), method, methodFile: file };
    const stop = new AbortController();
    const stopped = () => quantize({ ...options, signal: stop.signal }, { onBlock: () => stop.abort() });
    await assertRejects(stopped, Error);
    writeFileSync(file, `${SIGNS}// changed\n`);
    await assertRejects(() => quantize(options), Error, "begun with quantizer");
  });

  it("is refused where its file exports none, fails to load or gives what cannot be stored", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const load = (content: string) => {
      const file = join(folder.dir, `${content.length}.ts`);
      writeFileSync(file, content);
      return loadUserQuantizer(file);
    };
    await assertRejects(
      () => load("export const a = 1;"),
      Error,
      "its default export must be { name, quantize(values, info) }",
    );
    await assertRejects(() => load("throw new Error('at import');"), Error, "at import");
    const broken = await assertRejects(() => load("export default { quantize( { }"), Error, "Cannot load quantizer");
    assert(!broken.message.includes("\n") && !broken.message.includes("errors building"), broken.message);
    await assertRejects(() => loadUserQuantizer(join(folder.dir, "absent.ts")), Error, "absent.ts: it does not exist");
    const method = await load(
      "export default { name: 'bad', quantize: () => ({ family: 'dense', values: new Float32Array(3) }) };",
    );
    const run = () => quantize({ ...smallRun(model.dir, folder.dir, "rtn"), method });
    await assertRejects(run, Error, "q_proj: received 3 values, expected 16384");
    const nothing = await load("export default { name: 'none', quantize: () => undefined };");
    await assertRejects(
      () => quantize({ ...smallRun(model.dir, folder.dir, "rtn"), method: nothing }),
      Error,
      "it gave neither",
    );
  });
});

for (const runtime of RUNTIMES) {
  describe(`apiq quantize under ${runtime}`, () => {
    it("runs the example quantizer", async () => {
      using model = await createDenseModel();
      using folder = temporaryFolder();
      const out = join(folder.dir, "out");
      const { code, stderr, stdout } = await runApiq(runtime, [
        "quantize",
        model.dir,
        "--out",
        out,
        "--quantizer",
        EXAMPLE,
        "--bits",
        "3",
      ]);
      assertEquals(code, 0, stderr);
      assertStringIncludes(stdout, `Next: apiq serve --model ${out}`);
      const [first] = readFileSync(join(out, "quantize.jsonl"), "utf8").split("\n");
      assertEquals(JSON.parse(first!).method, "mse-search");
    });
  });
}
