/**
 * `bun scripts/bench/adapters/step.ts --model DIR`: what a decode step of 8 sequences takes longer when each has an adapter of its
 * own than when all have the same one, beside the time in which the machine reads the bytes that come with it. Only LoRA's ops
 * differ between the two steps, so only they are timed: block by block, each at its best of several rounds, because a whole step is
 * too long to stay undisturbed on a machine that does other things. Between two runs of a block all others have been through the
 * caches.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import type { DeviceBuffer, Graph } from "../../../ffi/mod.ts";
import { type LoadedModel, loadModel } from "../../../runtime/engine/loaded_model.ts";
import { openAdapter, openCheckpoint } from "../../../runtime/formats/mod.ts";
import { parseConfig } from "../../../runtime/models/config.ts";
import { imageBytes, readImage } from "../../../runtime/models/lora_image.ts";
import { LoraUpload } from "../../../runtime/models/lora_upload.ts";
import type { BlockWeights, Linear } from "../../../runtime/models/weights.ts";
import { writeRandomAdapter } from "./random_adapter.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    adapters: { type: "string", default: "8" },
    rank: { type: "string", default: "16" },
    rounds: { type: "string", default: "25" },
    threads: { type: "string", default: "1" },
    /** As with --adapter-memory: the pool has its pages before anything is uploaded. */
    ready: { type: "boolean", default: false },
  },
});
if (values.model === undefined) throw new Error("Missing --model DIR");
const [count, rank, rounds, threads] = [values.adapters, values.rank, values.rounds, values.threads].map(Number) as [
  number,
  number,
  number,
  number,
];
/** More than any cache holds. */
const BANDWIDTH_BYTES = 2 ** 28;
const READY_BYTES = 2 ** 27;

/** LoRA's ops of one block, as a decode step launches them: linears with the same input are one op. */
function record(loaded: LoadedModel, { q, k, v, o, gate, up, down }: BlockWeights, scratch: Scratch): Graph {
  const { context } = loaded;
  const lora = loaded.lora!;
  const part = ({ weight, loraTarget }: Linear, index: number) => ({
    slots: lora.slotTable(loraTarget),
    y: scratch.y[index]!.at(0),
    outFeatures: weight.outFeatures,
  });
  return context.record(() => {
    for (const linears of [[q, k, v], [o], [gate, up], [down]]) {
      context.lora({
        x: scratch.x.at(0),
        pool: lora.pool,
        poolBytes: lora.poolBytes,
        rowSlots: scratch.rowSlots.at(0),
        rows: count,
        inFeatures: linears[0]!.weight.inFeatures,
        nSlots: lora.slots,
        maxRank: lora.maxRank,
        parts: linears.map(part),
      });
    }
  });
}

interface Scratch {
  /** float32 [count, in] and up to three of [count, out] */
  readonly x: DeviceBuffer;
  readonly y: readonly DeviceBuffer[];
  /** int32 [count, 2] */
  readonly rowSlots: DeviceBuffer;
}

function scratch({ context, config }: LoadedModel, slotOf: (row: number) => number): Scratch {
  const bytes = 4 * count * Math.max(config.intermediateSize, config.heads * config.headDim, config.hiddenSize);
  const rowSlots = context.alloc(8 * count);
  rowSlots.upload(Int32Array.from({ length: 2 * count }, (_, i) => (i % 2 === 0 ? -1 : slotOf((i - 1) / 2))));
  return { x: context.alloc(bytes), y: [0, 1, 2].map(() => context.alloc(bytes)), rowSlots };
}

/** Milliseconds of each piece in which an adapter is uploaded between steps. */
function uploadPieces({ context, lora, adapterHost }: LoadedModel, dir: string): number[] {
  const table = lora!;
  const image = readImage(openAdapter(dir), table.dtype, adapterHost.calibrated);
  const slot = table.freeSlot()!;
  table.occupy(slot, false);
  using upload = new LoraUpload(context, table, slot, table.space.take(image.data.length)!, image);
  const pieces: number[] = [];
  for (let done = false; !done; ) {
    const started = performance.now();
    done = upload.advance(1);
    pieces.push(performance.now() - started);
  }
  return pieces;
}

const folder = mkdtempSync(join(tmpdir(), "apiq-bench-adapters-"));
try {
  const config = parseConfig(openCheckpoint(values.model).config, values.model);
  const adapters: Record<string, string> = {};
  for (let i = 0; i < count; i++) adapters[`a${i}`] = await writeRandomAdapter(config, join(folder, `a${i}`), rank, i);
  using loaded = loadModel({
    ...{ model: values.model, device: "cpu", threads, contextLength: 64, maxSequences: 1, kvMemory: undefined },
    ...{
      activations: "auto",
      adapters,
      hotAdapters: { max: 1, memory: values.ready ? READY_BYTES : undefined, maxRank: rank },
    },
  });
  const { context, info, weights } = loaded;
  const [same, different] = [scratch(loaded, () => 1), scratch(loaded, (row) => 1 + row)];
  const kinds = [same, different].map((one) => weights.blocks.map((block) => record(loaded, block, one)));
  const best = kinds.map((graphs) => new Float64Array(graphs.length).fill(Number.POSITIVE_INFINITY));
  using buffer = context.alloc(BANDWIDTH_BYTES);
  const chunk = new Uint8Array(2 ** 24).fill(1);
  for (let at = 0; at < BANDWIDTH_BYTES; at += chunk.length) buffer.upload(chunk, at);
  const bytes = imageBytes(openAdapter(adapters.a0!), loaded.lora!.dtype);
  // In pieces as large as what a block reads, and timed as blocks are.
  const pieceBytes = Math.ceil((count * bytes) / weights.blocks.length / 4096) * 4096;
  const views = Array.from({ length: Math.floor(buffer.bytes / pieceBytes) }, (_, i) =>
    buffer.view(i * pieceBytes, pieceBytes),
  );
  const speeds = new Float64Array(views.length);
  for (let round = 0; round < rounds; round++) {
    for (const [kind, graphs] of kinds.entries()) {
      for (const [block, graph] of graphs.entries()) {
        const started = performance.now();
        graph.launch();
        context.synchronize();
        best[kind]![block] = Math.min(best[kind]![block]!, performance.now() - started);
      }
    }
    for (const [i, view] of views.entries()) speeds[i] = Math.max(speeds[i]!, context.measureBandwidth(view) / 1000);
  }
  const [one, many] = best.map((blocks) => blocks.reduce((sum, ms) => sum + ms, 0)) as [number, number];
  const bytesPerMs = speeds.toSorted()[speeds.length >> 1]!;
  const extra = (count - 1) * bytes;
  for (const view of views) view[Symbol.dispose]();
  const pieces = uploadPieces(loaded, adapters.a0!).sort((a, b) => a - b);
  for (const [name, text] of [
    ["machine", `${info.device}, ${info.isa}, ${info.threads} threads, ${(bytesPerMs / 1e6).toFixed(1)} GB/s`],
    [`an adapter of rank ${rank}`, `${(bytes / 1e6).toFixed(2)} MB`],
    [`LoRA of ${count} rows, one adapter`, `${one.toFixed(2)} ms a step`],
    [`LoRA of ${count} rows, ${count} adapters`, `${many.toFixed(2)} ms a step`],
    [`reading ${(extra / 1e6).toFixed(1)} MB more`, `${(extra / bytesPerMs).toFixed(2)} ms`],
    ["difference over that", ((many - one) / (extra / bytesPerMs)).toFixed(2)],
    [
      "upload",
      `${pieces.length} pieces, median ${pieces[pieces.length >> 1]!.toFixed(2)} ms, longest ${pieces.at(-1)!.toFixed(2)} ms`,
    ],
  ] as const) {
    process.stdout.write(`${name.padEnd(30)}${text}\n`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
