/** report.html: one page without script or network that is right for every kind of run. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { BlockRecord, LinearRecord, LossCurve } from "../../runtime/quantize/block_file.ts";
import { quantize } from "../../runtime/quantize/pipeline.ts";
import { methodNamed } from "../../runtime/quantize/registry.ts";
import { reportPage } from "../../runtime/quantize/report.ts";
import { createDenseModel } from "../fixtures/dense_model.ts";
import { smallRun, temporaryFolder } from "./run.ts";

const PACKED = { family: "affine", bits: 2, group: 64, zero: "integer" } as const;
const linear = (error: number, storage: LinearRecord["storage"] = PACKED): LinearRecord => {
  return { storage, lora: null, error };
};

function block(layer: number, losses: readonly LossCurve[], linears: Record<string, LinearRecord>): BlockRecord {
  return { layer, seconds: 2, peakBytes: 1.5e9, losses, outputError: 0.25, linears };
}

function page(records: readonly BlockRecord[], layers = records.length): string {
  const head = { source: "<model>", out: 'a"b', calibration: { data: "x&y.txt" }, method: methodNamed("apiq-bw") };
  return reportPage(head, { method: "apiq-bw", bits: 2, group: 64, damping: 0.01, keep: [] }, records, layers);
}

describe("report.html", () => {
  it("needs no script and no network, and escapes names", () => {
    const text = page([block(0, [{ part: "<b>", losses: [2, 1] }], { "m.<q>_proj": linear(0.5) })]);
    for (const part of ["<script", "http", "url(", "<b>", "<model>", "<q>", "onload"])
      assert(!text.includes(part), part);
    for (const part of ["&#60;model&#62; &rarr; a&#34;b", "x&#38;y.txt", "prefers-color-scheme: dark"]) {
      assertStringIncludes(text, part);
    }
  });

  it("counts blocks from 1, as the command does, and tells how far an unfinished run is", () => {
    const text = page([block(0, [], { q_proj: linear(0.5) }), block(1, [], { q_proj: linear(0.4) })], 30);
    assertStringIncludes(text, "2 of 30 blocks finished in 4 s");
    assertStringIncludes(text, "block 2: 25.0 %");
    assert(!text.includes("block 0"));
  });

  it("labels losses so that the ends differ, without powers of ten", () => {
    const text = page([block(0, [{ part: null, losses: [6073.4, 6073.1] }], { q_proj: linear(0.5) })]);
    assertStringIncludes(text, ">6073.4</text>");
    assertStringIncludes(text, ">6073.1</text>");
    assertStringIncludes(text, ">2 epochs</text>");
    assertStringIncludes(page([block(0, [{ part: null, losses: [3] }], { q: linear(0.5) })]), ">1 epoch</text>");
    assert(!text.includes("e+3"));
  });

  it("draws the parts of a block in one chart, as shares of their first epoch", () => {
    const losses = ["q_proj", "o_proj"].map((part, i) => ({ part, losses: [10 ** i, 10 ** i / 2] }));
    const text = page([block(0, losses, { q_proj: linear(0.5) })]);
    assertEquals(text.match(/<polyline/g)?.length, 2);
    for (const part of ["100 %", "50.0 %", "<title>o_proj: 10.0 to 5.00</title>"]) assertStringIncludes(text, part);
  });

  it("outlines linears that were left in 16 bits, which do not count for the scale of the shades", () => {
    const linears = { q_proj: linear(0.4), k_proj: linear(0.5), down_proj: linear(0, { family: "dense" }) };
    const text = page([block(0, [], linears)]);
    assertMatch(text, /class="kept"><title>block 1, down_proj: 0.00 %, in 16 bits/);
    assertStringIncludes(text, ">40.0 %</text>");
    assert(!text.includes(">0.00 %</text>"));
  });

  it("shows the settings that the method heeds, by their flags", () => {
    const text = page([block(0, [], { q_proj: linear(0.5) })]);
    assertStringIncludes(text, "<th>--group-size</th><td>64</td>");
    assertStringIncludes(text, "<th>--keep</th><td>none</td>");
    assert(!text.includes("damping"));
  });

  it("ends with the size of the model", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const { out, bitsPerWeight } = await quantize(smallRun(model.dir, folder.dir, "rtn"));
    const text = readFileSync(join(out, "report.html"), "utf8");
    assertMatch(text, new RegExp(`2 blocks: 2\\d\\d KB, ${bitsPerWeight.toFixed(2)} bits per weight of the blocks; `));
    assert(!text.includes("Loss of each block") && !text.includes("Output error</h2>"));
  });

  it("draws what the whole model's training did, where a method has one", async () => {
    using model = await createDenseModel();
    using folder = temporaryFolder();
    const epochs = { endToEndEpochs: 3, endToEndLearningRate: 1e-3 };
    const { out } = await quantize(smallRun(model.dir, folder.dir, "block-ap", epochs));
    const text = readFileSync(join(out, "report.html"), "utf8");
    assertStringIncludes(text, "<h2>Loss of the whole model</h2>");
    const [, chart] = text.split("Loss of the whole model</h2>");
    const [drawing] = chart!.split("</svg>");
    assertEquals(/points="([^"]*)"/.exec(drawing!)![1]!.split(" ").length, 3);
    assert(!page([block(0, [], { q_proj: linear(0.5) })]).includes("whole model"));
  });
});
