import { Context } from "../../../ffi/mod.ts";
import { measureSpeed, type SpeedOptions, type SpeedReport } from "../../bench/speed.ts";
import { chooseShape, type EngineShape } from "../../engine/engine_shape.ts";
import { loadModel } from "../../engine/loaded_model.ts";
import { ModelRunner } from "../../engine/model_runner.ts";
import type { EngineOptions } from "../../engine/protocol.ts";
import { residentBytes } from "../../memory.ts";
import { parseConfig } from "../../models/config.ts";
import { randomDecoder } from "../../models/random.ts";
import { SHAPES } from "../../models/shapes.ts";
import { choice } from "../choice.ts";
import { defineCommand, UsageError } from "../command.ts";
import { formatBytes } from "../format.ts";

export const benchCommand = defineCommand({
  name: "bench",
  summary: "decode and prefill speed, beside the machine's read bandwidth",
  description:
    "Measures a model folder, or a known shape with random weights. The fraction of bandwidth counts every byte that a decode step reads and uses the bandwidth measured in the same run.",
  flags: {
    model: { type: "string", summary: "model folder", placeholder: "DIR" },
    shape: { type: "string", summary: "a shape with random weights", choices: Object.keys(SHAPES) },
    bits: { type: "integer", summary: "with --shape: bits of the linears (2, 3, 4, 8)", default: 2 },
    groupSize: { type: "integer", summary: "with --shape: group size (32, 64, 128)", default: 64 },
    headBits: { type: "integer", summary: "with --shape: bits of embedding and head", default: 8 },
    threads: { type: "integer", summary: "threads (0: all)", default: 0, min: 0, max: 1024 },
    prompt: { type: "integer", summary: "prompt tokens", default: 512, min: 1, max: 65536 },
    tokens: { type: "integer", summary: "tokens to decode", default: 64, min: 8, max: 65536 },
    sequences: { type: "integer", summary: "sequences that decode together", default: 1, min: 1, max: 256 },
    activations: {
      type: "string",
      summary: "how packed linears treat their input",
      choices: ["auto", "int8", "f32"],
      default: "auto",
    },
    json: { type: "boolean", summary: "print JSON" },
  },
  examples: ["apiq bench --shape tinyllama-1.1b --bits 2", "apiq bench --model m --sequences 8 --json"],
  async run({ flags, out, signal }) {
    if ((flags.model === undefined) === (flags.shape === undefined)) {
      throw new UsageError("expected either --model DIR or --shape NAME");
    }
    const speed: SpeedOptions = {
      prompt: flags.prompt,
      tokens: flags.tokens,
    };
    const settings = {
      threads: flags.threads,
      activations: flags.activations,
      sequences: flags.sequences,
      speed,
      signal,
    };
    const result =
      flags.model !== undefined
        ? await benchModel(flags.model, settings)
        : await benchShape(flags.shape as string, settings, {
            bits: choice("--bits", flags.bits, [2, 3, 4, 8]),
            group: choice("--group-size", flags.groupSize, [32, 64, 128]),
            headBits: choice("--head-bits", flags.headBits, [2, 3, 4, 8]),
            seed: 1,
          });
    if (flags.json) out.json(result);
    else printReport(result, (text) => out.line(text));
    return 0;
  },
});

interface Settings {
  threads: number;
  activations: EngineOptions["activations"];
  sequences: number;
  speed: SpeedOptions;
  signal: AbortSignal;
}

interface BenchResult extends SpeedReport {
  name: string;
  device: string;
  isa: string;
  threads: number;
  activations: EngineShape["activations"];
  sequences: number;
  memory: { weights: number; kvCache: number; resident: number };
}

function engineOptions(model: string, { threads, activations, sequences, speed }: Settings): EngineOptions {
  return {
    model,
    device: "auto",
    threads,
    contextLength: speed.prompt + speed.tokens + 1,
    maxSequences: sequences,
    kvMemory: Number.POSITIVE_INFINITY,
    activations,
    adapters: {},
  };
}

async function benchModel(model: string, settings: Settings): Promise<BenchResult> {
  using loaded = loadModel(engineOptions(model, settings));
  const { context, runner, info, weights, shape } = loaded;
  const report = await measureSpeed(context, runner, weights, shape, settings.speed, info.memory.lora, settings.signal);
  const memory = { weights: info.memory.weights, kvCache: info.memory.kvCache, resident: residentBytes() };
  return { name: model, ...describe(context, shape), ...report, memory };
}

async function benchShape(
  name: string,
  settings: Settings,
  options: Parameters<typeof randomDecoder>[2],
): Promise<BenchResult> {
  const config = parseConfig(SHAPES[name], name);
  const shape = chooseShape(config, engineOptions("", settings));
  using context = Context.open({ device: "cpu", threads: settings.threads });
  using decoder = randomDecoder(context, config, options);
  using runner = new ModelRunner(context, decoder.weights, null, shape);
  const report = await measureSpeed(context, runner, decoder.weights, shape, settings.speed, 0, settings.signal);
  const memory = { weights: decoder.weightBytes, kvCache: runner.kvBytes, resident: residentBytes() };
  const title = `${name}, ${options.bits} bits, groups of ${options.group}, head ${options.headBits} bits, random weights`;
  return { name: title, ...describe(context, shape), ...report, memory };
}

function describe(context: Context, { activations, maxSequences }: EngineShape) {
  const { device, isa, threads } = context.describe();
  return { device, isa, threads, activations, sequences: maxSequences };
}

function printReport(result: BenchResult, line: (text: string) => void): void {
  const { decode, prefill, memory } = result;
  line(result.name);
  line(`device      ${result.device}, ${result.isa}, ${result.threads} threads, ${result.activations} activations`);
  line(`bandwidth   ${(result.bandwidthBytesPerSecond / 1e9).toFixed(1)} GB/s read`);
  const batch = result.sequences === 1 ? "" : `, ${result.sequences} sequences`;
  line(
    `decode      ${decode.tokensPerSecond.toFixed(1)} tokens/s${batch} (median ${decode.medianMs.toFixed(2)} ms, best ${decode.bestMs.toFixed(2)} ms)`,
  );
  line(
    `            ${formatBytes(result.bytesPerStep)} a step, ${(100 * decode.fractionOfBandwidth).toFixed(0)} % of bandwidth`,
  );
  line(
    `prefill     ${prefill.tokensPerSecond.toFixed(1)} tokens/s (${prefill.tokens} tokens in ${prefill.seconds.toFixed(2)} s)`,
  );
  line(
    `memory      ${formatBytes(memory.resident)} resident; weights ${formatBytes(memory.weights)}, KV cache ${formatBytes(memory.kvCache)}`,
  );
}
