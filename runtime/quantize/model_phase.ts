/**
 * What a method does to the whole model once all blocks are made. In OUT.partial:
 *
 *   begun/      the model as the blocks left it, while the method works on it
 *   finishing/  revised blocks while they are written
 *   finished/   all revised blocks and the record of the phase (phase.json); appears when it is whole
 *
 * A run that is stopped here begins the phase anew, to the same bytes.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Context } from "../../ffi/mod.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { blockLinears } from "../models/weights.ts";
import { assemble, type StoredTable } from "./assemble.ts";
import { type BlockFile, openBlock, readBlock, writeBlock } from "./block_file.ts";
import { applyStored, asStored } from "./block_forward.ts";
import type { Pause } from "./calibration_run.ts";
import { checkResult } from "./check_result.ts";
import { linearRecords } from "./linear_records.ts";
import { LossRecorder } from "./loss_recorder.ts";
import type { MethodEvent, MethodSettings, QuantizationMethod, Revision } from "./method.ts";
import { emptyFolder } from "./partial_folder.ts";
import { loadBlock, type Source } from "./source.ts";

const FINISHED = "finished";
const RECORD = "phase.json";

export interface ModelPhaseOptions {
  readonly context: Context;
  readonly source: Source;
  readonly method: QuantizationMethod;
  readonly settings: MethodSettings;
  /** The calibration samples' token ids. */
  readonly samples: readonly Int32Array[];
  readonly kept: ReadonlySet<string>;
  /** OUT.partial */
  readonly dir: string;
  readonly blocks: readonly BlockFile[];
  readonly tables: readonly StoredTable[];
  readonly onStep: (event: MethodEvent) => void;
  readonly pause: Pause;
}

/** What is known about the phase afterwards. */
export interface ModelRecord {
  readonly seconds: number;
  /** Mean loss of each epoch. */
  readonly losses: readonly number[];
}

export interface FinishedModel {
  readonly blocks: readonly BlockFile[];
  readonly record: ModelRecord;
}

export async function finishModel(options: ModelPhaseOptions): Promise<FinishedModel> {
  const { dir, source } = options;
  const finished = join(dir, FINISHED);
  if (!existsSync(finished)) {
    const started = performance.now();
    const losses = new LossRecorder();
    const revise = await runMethod(options, losses);
    const finishing = emptyFolder(join(dir, "finishing"));
    for (const layer of source.blocks.keys()) await reviseBlock(options, layer, revise, finishing);
    const [curve] = losses.curves();
    const record: ModelRecord = { seconds: (performance.now() - started) / 1000, losses: curve?.losses ?? [] };
    writeFileSync(join(finishing, RECORD), JSON.stringify(record));
    renameSync(finishing, finished);
  }
  return {
    blocks: source.blocks.map((_, layer) => openBlock(finished, layer)),
    record: JSON.parse(readFileSync(join(finished, RECORD), "utf8")) as ModelRecord,
  };
}

/** What is there of the phase belongs to blocks that are not: for a run that makes blocks. */
export function discardModelPhase(dir: string): void {
  rmSync(join(dir, FINISHED), { recursive: true, force: true });
}

async function runMethod(options: ModelPhaseOptions, losses: LossRecorder): Promise<Revision> {
  const { context, source, method, settings, samples, blocks, tables, pause, onStep } = options;
  const begun = emptyFolder(join(options.dir, "begun"));
  try {
    await assemble(begun, source, blocks, tables);
    const report = async (event: MethodEvent): Promise<void> => {
      losses.add(event);
      onStep(event);
      await pause();
    };
    const checkpoint = openCheckpoint(begun);
    return await method.finish!({ context, checkpoint, config: source.config, settings, samples, report });
  } finally {
    rmSync(begun, { recursive: true, force: true });
  }
}

async function reviseBlock(
  { context, source, kept, blocks, pause }: ModelPhaseOptions,
  layer: number,
  revise: Revision,
  dir: string,
): Promise<void> {
  const linears = source.blocks[layer]!;
  const file = blocks[layer]!;
  const stored = readBlock(file, linears);
  const result = new Map(
    [...stored].map(([module, linear]) => [module, kept.has(module) ? linear : asStored(revise(module, linear))]),
  );
  checkResult(new Map([...result].filter(([module]) => !kept.has(module))), linears, kept);
  using block = loadBlock(context, source, layer);
  for (const linear of blockLinears(block.weights)) applyStored(context, linear, result.get(linear.name)!);
  const records = await linearRecords(block.weights, linears, result, pause);
  await writeBlock(dir, linears, result, kept, { ...file.record, linears: records });
}
