import { existsSync } from "node:fs";
import { parseBitsFor } from "../../quantize/bits_for.ts";
import { blockPath } from "../../quantize/block_file.ts";
import { isAbort } from "../../quantize/failures.ts";
import type { MethodOption, MethodSettings, QuantizationMethod } from "../../quantize/method.ts";
import { partialPath } from "../../quantize/partial_folder.ts";
import { type QuantizeOptions, type QuantizeResult, quantize } from "../../quantize/pipeline.ts";
import { planRun, type RunPlan } from "../../quantize/plan.ts";
import { bitsOfName, METHODS, methodNamed, refuseIgnored } from "../../quantize/registry.ts";
import {
  CALIBRATION_DEFAULTS,
  EMBEDDING_BITS,
  type EmbeddingBits,
  methodSettings,
  PRESETS,
} from "../../quantize/settings.ts";
import { loadUserQuantizer } from "../../quantize/user_quantizer.ts";
import { defineCommand, type FlagValues, UsageError } from "../command.ts";
import { formatBytes, formatDuration } from "../format.ts";
import { EXIT_INTERRUPTED } from "../main.ts";
import type { Output } from "../output.ts";
import { QuantizeProgress } from "../quantize_progress.ts";

const { default: DEFAULT } = PRESETS;
const about = (summary: string, value: unknown): string => `${summary} (default ${value})`;

/** `about` for a setting of which methods may have defaults of their own. */
function aboutRate(summary: string, name: keyof typeof DEFAULT): string {
  const values = new Set(METHODS.flatMap(({ defaults }) => defaults?.[name] ?? []));
  const own = [...values].map((value) => {
    const methods = METHODS.filter(({ defaults }) => defaults?.[name] === value);
    return `; ${value} for ${methods.map((method) => method.name).join(", ")}`;
  });
  return about(summary, `${DEFAULT[name]}${own.join("")}`);
}

const METHOD_NAMES = METHODS.map(({ name }) => name);

/** Without `default`: what is not given comes from --preset. */
const FLAGS = {
  out: { type: "string", summary: "folder to make", placeholder: "DIR", required: true },
  method: { type: "string", summary: "one of the methods above", placeholder: "NAME", choices: METHOD_NAMES },
  quantizer: {
    type: "string",
    summary: "a file of your own instead of --method; what it only dequantises is stored in 16 bits",
    placeholder: "FILE.ts",
  },
  bits: { type: "integer", summary: about("bits of a weight: 2, 3, 4 or 8", DEFAULT.bits) },
  groupSize: { type: "integer", summary: about("weights that share a scale: 32, 64 or 128", DEFAULT.group) },
  data: { type: "string", summary: "calibration data: text, or .jsonl of texts or chats", placeholder: "FILE" },
  samples: {
    type: "integer",
    summary: "windows of the data to calibrate on",
    default: CALIBRATION_DEFAULTS.samples,
    min: 1,
  },
  seqLen: { type: "integer", summary: "tokens of a window", default: CALIBRATION_DEFAULTS.length, min: 2 },
  windows: {
    type: "string",
    summary: "which windows: the first ones, or a random choice that --seed decides",
    choices: ["first", "random"],
    default: CALIBRATION_DEFAULTS.windows,
  },
  preset: {
    type: "string",
    summary: "where settings come from that are not given",
    choices: Object.keys(PRESETS),
    default: "default",
  },
  rank: { type: "integer", summary: about("rank of the LoRA, for methods that make one", DEFAULT.rank) },
  alpha: { type: "number", summary: about("its scale is alpha / rank", DEFAULT.alpha) },
  dora: { type: "boolean", summary: "DoRA: learn the norms of rows too" },
  epochs: { type: "integer", summary: about("passes over the samples for each block", DEFAULT.epochs) },
  loraLr: { type: "number", summary: aboutRate("learning rate of the LoRA", "loraLearningRate") },
  clippingLr: {
    type: "number",
    summary: aboutRate("learning rate of clipping, scales and zeros", "clippingLearningRate"),
  },
  weightLr: {
    type: "number",
    summary: about("block-ap: learning rate of the weights", DEFAULT.weightLearningRate),
  },
  endToEndEpochs: {
    type: "integer",
    summary: about("block-ap: passes that train the scales of the whole model, 0 for none", DEFAULT.endToEndEpochs),
  },
  endToEndLr: {
    type: "number",
    summary: about("block-ap: their learning rate, relative to each scale", DEFAULT.endToEndLearningRate),
  },
  lrSchedule: {
    type: "string",
    summary: about("learning rates over a block's steps", DEFAULT.schedule),
    choices: ["constant", "cosine"],
  },
  weightDecay: { type: "number", summary: about("weight decay of LoRA and clipping", DEFAULT.weightDecay) },
  augLoss: {
    type: "boolean",
    undecided: true,
    summary: about("also match the full-precision block on the quantized input", DEFAULT.augLoss ? "on" : "off"),
  },
  damping: {
    type: "number",
    summary: about("gptq, cloq: part of the mean diagonal added to the Gram matrix", DEFAULT.damping),
  },
  iterations: { type: "integer", summary: about("loftq: rounds of quantization and SVD, 1 to 5", DEFAULT.iterations) },
  base: { type: "string", summary: about("loftq: what it quantizes to", DEFAULT.base), choices: ["affine", "nf"] },
  doubleQuantization: { type: "boolean", summary: "normal-float: store the scales in 8 bits" },
  bitsFor: {
    type: "string",
    summary: "linears that get other bits than --bits: model.layers.(0|29).*.*=4; of several patterns the last counts",
    placeholder: "PATTERN=BITS",
    multiple: true,
  },
  keep: {
    type: "string",
    summary: "linears left in 16 bits; * is any part of a dotted name, (a|b) one of several",
    placeholder: "PATTERN",
    multiple: true,
  },
  embedBits: {
    type: "integer",
    summary: "embedding and head: 16, 8 or 4; below 16 only apiq reads the folder",
    default: 16,
  },
  initFrom: { type: "string", summary: "begin from this result of another method", placeholder: "DIR" },
  seed: { type: "integer", summary: about("of everything random", DEFAULT.seed), min: 0 },
  streamDir: {
    type: "string",
    summary: "keep the calibration streams in files here, not in memory",
    placeholder: "DIR",
  },
  threads: { type: "integer", summary: "processor threads; 0 takes all cores", default: 0, min: 0, max: 1024 },
  dryRun: { type: "boolean", summary: "check everything, tell memory and time, and write nothing" },
  json: { type: "boolean", summary: "print JSON" },
} as const;

type Flags = FlagValues<typeof FLAGS>;

export const quantizeCommand = defineCommand({
  name: "quantize",
  summary: "make a packed model of 2, 3, 4 or 8 bits from a Hugging Face folder",
  description: [
    "SRC holds float16, bfloat16 or float32 safetensors. Blocks are quantized one after the other, so memory holds one of them and",
    "the calibration streams. DIR appears when all is done; DIR.partial holds finished blocks until then, and the same command",
    "continues from it, to the same bytes, however the run ended. quantize.jsonl and report.html say how it went.",
    "",
    "Methods",
    ...METHODS.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`),
  ].join("\n"),
  positionals: [{ name: "SRC", summary: "folder of the model", required: true }],
  flags: FLAGS,
  examples: [
    "apiq quantize model --out model-2bit --method apiq-bw --bits 2 --data train.txt",
    "apiq quantize model --out model-4bit --method rtn --bits 4 --keep 'model.layers.*.mlp.down_proj'",
  ],
  async run({ flags, positionals, out, signal }) {
    const options = await optionsOf(positionals[0]!, flags, signal);
    if (flags.dryRun) {
      const plan = await planRun(options);
      if (flags.json) out.json(plan);
      else printPlan(plan, out);
      return 0;
    }
    try {
      const result = await withProgress(options, out);
      if (flags.json) out.json(summaryOf(result));
      else printResult(result, out);
      return 0;
    } catch (error) {
      if (!isAbort(error)) throw error;
      const dir = partialPath(options.out);
      const kept = existsSync(blockPath(dir, 0));
      out.note(
        `Stopped. ${kept ? `Finished blocks are kept in ${dir}: the same command continues.` : "No block was finished."}`,
      );
      return EXIT_INTERRUPTED;
    }
  },
});

async function optionsOf(source: string, flags: Flags, signal: AbortSignal): Promise<QuantizeOptions> {
  const method = await methodOf(flags);
  const given = settingsOf(flags, method.name);
  usable(() => refuseIgnored(method, optionsGiven(given, flags)));
  return {
    source,
    out: outFolder(flags.out),
    method,
    ...(flags.quantizer !== undefined && { methodFile: flags.quantizer }),
    settings: usable(() => methodSettings(flags.preset as keyof typeof PRESETS, given, method)),
    calibration: {
      data: flags.data ?? null,
      samples: flags.samples,
      length: flags.seqLen,
      windows: flags.windows,
    },
    keep: flags.keep,
    bitsFor: usable(() => flags.bitsFor.map(parseBitsFor)),
    embeddingBits: embeddingBits(flags.embedBits),
    initFrom: flags.initFrom ?? null,
    streamDir: flags.streamDir ?? null,
    threads: flags.threads,
    signal,
  };
}

/** Without slashes at its end: beside it there will be a folder with the same name and ".partial". */
function outFolder(received: string): string {
  if (received === "") throw new UsageError("Cannot use --out: received nothing, expected a folder to make");
  return received.replace(/(?<=.)\/+$/, "");
}

async function methodOf({ method, quantizer }: Flags): Promise<QuantizationMethod> {
  if ((method === undefined) === (quantizer === undefined)) {
    throw new UsageError("expected either --method NAME or --quantizer FILE.ts");
  }
  return quantizer === undefined ? methodNamed(method!) : await loadUserQuantizer(quantizer);
}

function settingsOf(flags: Flags, method: string): Partial<MethodSettings> {
  const bits = bitsOfName(method);
  if (bits !== undefined && flags.bits !== undefined && flags.bits !== bits) {
    throw new UsageError(`Cannot use --bits with ${method}: received ${flags.bits}, expected ${bits} or nothing`);
  }
  return {
    bits: bits ?? (flags.bits as MethodSettings["bits"] | undefined),
    group: flags.groupSize as MethodSettings["group"] | undefined,
    rank: flags.rank,
    alpha: flags.alpha,
    dora: flags.dora || undefined,
    epochs: flags.epochs,
    loraLearningRate: flags.loraLr,
    clippingLearningRate: flags.clippingLr,
    weightLearningRate: flags.weightLr,
    endToEndEpochs: flags.endToEndEpochs,
    endToEndLearningRate: flags.endToEndLr,
    schedule: flags.lrSchedule,
    weightDecay: flags.weightDecay,
    augLoss: flags.augLoss,
    damping: flags.damping,
    iterations: flags.iterations,
    base: flags.base,
    doubleQuantization: flags.doubleQuantization || undefined,
    seed: flags.seed,
  };
}

function optionsGiven({ seed: _, ...given }: Partial<MethodSettings>, { initFrom, bitsFor }: Flags): MethodOption[] {
  const named = bitsFor.length > 0 ? bitsFor : undefined;
  const options = Object.entries({ ...given, init: initFrom, bitsFor: named }).filter(
    ([, value]) => value !== undefined,
  );
  return options.map(([option]) => option as MethodOption);
}

function usable<T>(body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw error instanceof RangeError ? new UsageError(error.message) : error;
  }
}

function embeddingBits(received: number): EmbeddingBits {
  const bits = EMBEDDING_BITS.find((bits) => bits === received);
  if (bits === undefined)
    throw new UsageError(`Cannot use --embed-bits: received ${received}, expected ${EMBEDDING_BITS.join(", ")}`);
  return bits;
}

async function withProgress(options: QuantizeOptions, out: Output): Promise<QuantizeResult> {
  using progress = new QuantizeProgress(out, partialPath(options.out));
  return await quantize(options, progress);
}

function printPlan(plan: RunPlan, out: Output): void {
  for (const note of plan.notes) out.note(note);
  const kept = plan.keptWeights > 0 ? `, ${count(plan.keptWeights)} kept in 16 bits` : "";
  out.line(`method      ${plan.method}`);
  out.line(`blocks      ${plan.blocks}, ${plan.linears} linears, ${count(plan.weights)} weights to quantize${kept}`);
  const data = plan.calibration;
  if (data !== null) out.line(`data        ${data.samples} windows of ${data.length} tokens from ${data.kind}`);
  out.line(`memory      ${formatBytes(plan.memoryBytes)}, of which`);
  for (const { part, bytes } of plan.memory) out.line(`  ${formatBytes(bytes).padStart(9)} ${part}`);
  if (plan.finish !== null) {
    const { bytes, seconds } = plan.finish;
    out.line(`at the end  ${formatBytes(bytes)}, about ${formatDuration(seconds)} for the whole model`);
  }
  if (plan.streamFileBytes > 0) out.line(`files       ${formatBytes(plan.streamFileBytes)} of calibration streams`);
  const free = plan.diskFreeBytes === null ? "" : `, ${formatBytes(plan.diskFreeBytes)} are free`;
  out.line(`disk        about ${formatBytes(plan.diskBytes)} for the blocks and the model${free}`);
  out.line(
    `time        about ${formatDuration(plan.seconds)}, ${formatDuration(plan.secondsPerBlock)} a block, measured on the first`,
  );
}

/** 12345678 -> "12.3 M" */
function count(weights: number): string {
  return weights < 1e9 ? `${(weights / 1e6).toPrecision(3)} M` : `${(weights / 1e9).toPrecision(3)} G`;
}

function summaryOf(result: QuantizeResult): object {
  return { ...result, blocks: result.blocks.length };
}

function printResult(result: QuantizeResult, out: Output): void {
  const { seconds, peakBytes, modelBytes, adapterBytes, bitsPerWeight } = result;
  const lora = adapterBytes > 0 ? ` and ${formatBytes(adapterBytes)} of LoRA` : "";
  out.line(
    `${result.out}: ${formatBytes(modelBytes)}${lora}, ${bitsPerWeight.toFixed(2)} bits per weight of the blocks`,
  );
  out.line(
    `${formatDuration(seconds)}, at most ${formatBytes(peakBytes)} of memory; report: ${result.out}/report.html`,
  );
  const name = /^[\w./+-]+$/.test(result.out) ? result.out : `'${result.out.replaceAll("'", "'\\''")}'`;
  out.line(`Next: apiq serve --model ${name}`);
}
