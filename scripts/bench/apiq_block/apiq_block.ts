/** apiq's side: the method as `apiq quantize` runs it, stopped after the timed steps. Reads a BlockTask, prints a BlockAnswer. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Context } from "../../../ffi/mod.ts";
import { BlockForward } from "../../../runtime/quantize/block_forward.ts";
import { CalibrationRun } from "../../../runtime/quantize/calibration_run.ts";
import type { BlockJob } from "../../../runtime/quantize/method.ts";
import { methodNamed } from "../../../runtime/quantize/registry.ts";
import { methodSettings } from "../../../runtime/quantize/settings.ts";
import { loadBlock, loadInverseFrequencies, openSource, type Source } from "../../../runtime/quantize/source.ts";
import { median } from "./report.ts";
import type { BlockAnswer, BlockTask } from "./task.ts";

/** Ends the method once everything is timed. */
class EnoughSteps extends Error {}

const seconds = (since: number): number => (performance.now() - since) / 1000;

/** Seconds of each full-precision forward over the task's samples. */
function timeForwards(context: Context, source: Source, task: BlockTask, job: Omit<BlockJob, "report">): number[] {
  const { inputs } = job.calibration!;
  using forward = new BlockForward(context, source.config, inputs.length, job.inverseFrequencies);
  return task.ids.map((_, sample) => {
    const begin = performance.now();
    forward.run(job.block, task.layer, inputs.read(sample));
    context.synchronize();
    return seconds(begin);
  });
}

/** Seconds of each timed step, and the mean loss of all steps. */
async function timeSteps(task: BlockTask, job: Omit<BlockJob, "report">): Promise<{ times: number[]; loss: number }> {
  const times: number[] = [];
  let done = 0;
  let last = performance.now();
  let loss = Number.NaN;
  const report: BlockJob["report"] = ({ loss: mean }) => {
    job.context.synchronize();
    done++;
    if (done > task.warmup) times.push(seconds(last));
    last = performance.now();
    if (mean !== null) loss = mean;
    return times.length === task.steps ? Promise.reject(new EnoughSteps()) : Promise.resolve();
  };
  try {
    await methodNamed("apiq-bw").quantizeBlock({ ...job, report });
  } catch (error) {
    if (!(error instanceof EnoughSteps)) throw error;
  }
  if (times.length < task.steps) {
    throw new Error(`Cannot time the steps: the method reported ${done}, expected ${task.warmup + task.steps}`);
  }
  return { times, loss };
}

async function run(task: BlockTask): Promise<BlockAnswer> {
  const source = openSource(task.model);
  const { ids, warmup, steps, threads, model: _, layer, ...given } = task;
  const settings = methodSettings("default", { ...given, epochs: 1 }, methodNamed("apiq-bw"));
  using context = Context.open({ threads });
  using frequencies = loadInverseFrequencies(context, source.config);
  const inverseFrequencies = frequencies.at(0);
  const windows = ids.map((window) => Int32Array.from(window));
  const calibration = { file: "", kind: "text", windows, length: windows[0]!.length, sha256: "", notes: [] } as const;
  const pause = (): Promise<void> => Promise.resolve();
  const options = { inverseFrequencies, streamDir: null, storedRows: (rows: Float32Array) => rows, pause };
  using streams = await CalibrationRun.start(context, source, calibration, options);
  using block = loadBlock(context, source, layer);
  const job = {
    ...{ context, config: source.config, layer, block: block.weights, inverseFrequencies, settings },
    ...{ kept: new Set<never>(), init: null, calibration: await streams.makeTargets(block.weights, layer) },
  };
  const forwards = timeForwards(context, source, task, job);
  const { times, loss } = await timeSteps(task, job);
  const about = `apiq on ${context.describe().isa}`;
  return { secondsPerStep: median(times), secondsPerForward: median(forwards), loss, about };
}

console.log(JSON.stringify(await run(JSON.parse(readFileSync(process.stdin.fd, "utf8")) as BlockTask)));
