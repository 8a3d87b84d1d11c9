/** A model on a device with its runner: what the engine, `eval` and `bench` build on. */
import { Context, type ContextOptions } from "../../ffi/mod.ts";
import type { AdapterHost } from "../adapters/open.ts";
import { openCheckpoint } from "../formats/mod.ts";
import { type DecoderConfig, parseConfig } from "../models/config.ts";
import { loadDecoder } from "../models/load.ts";
import type { LoraTable } from "../models/lora.ts";
import type { DecoderWeights } from "../models/weights.ts";
import { loadAdapters, openAdapters } from "./adapters_at_start.ts";
import { chooseShape, type EngineShape } from "./engine_shape.ts";
import { ModelRunner } from "./model_runner.ts";
import type { EngineModelInfo, EngineOptions } from "./protocol.ts";

export type LoadReport = (stage: string, done: number, total: number) => void;

export interface LoadedModel extends Disposable {
  readonly context: Context;
  readonly runner: ModelRunner;
  /** The model's folder. */
  readonly dir: string;
  readonly config: DecoderConfig;
  readonly weights: DecoderWeights;
  readonly info: EngineModelInfo;
  readonly shape: EngineShape;
  /** null: the model takes no adapters, and has no calibrated LoRA. */
  readonly lora: LoraTable | null;
  /** What adapters have to fit. */
  readonly adapterHost: AdapterHost;
  /** Slot of each adapter that was loaded with the model, by name. */
  readonly adapterSlots: ReadonlyMap<string, number>;
}

/** Opens, checks and loads a model folder and the adapters that go with it. */
export function loadModel(options: EngineOptions, report: LoadReport = () => {}): LoadedModel {
  const started = performance.now();
  const checkpoint = openCheckpoint(options.model);
  const config = parseConfig(checkpoint.config, `${options.model}/config.json`);
  const adapters = openAdapters(checkpoint, config, options);
  const owned: Disposable[] = [];
  const own = <T extends Disposable>(value: T): T => {
    owned.push(value);
    return value;
  };
  const dispose = (): void => {
    for (const value of owned.splice(0).reverse()) value[Symbol.dispose]();
  };
  try {
    const context = own(Context.open(contextOptions(options)));
    const decoder = own(loadDecoder(context, checkpoint, config, (done, total) => report("weights", done, total)));
    const shape = chooseShape(config, options);
    const lora = loadAdapters(context, decoder.weights, adapters, shape.loraDtype);
    if (lora) own(lora);
    const runner = own(new ModelRunner(context, decoder.weights, lora, shape));
    const description = context.describe();
    return {
      context,
      runner,
      dir: options.model,
      config,
      weights: decoder.weights,
      shape,
      lora,
      adapterHost: adapters.host,
      adapterSlots: new Map(adapters.named.map(([name], i) => [name, i + 1])),
      info: {
        contextLength: shape.contextLength,
        vocabSize: config.vocabSize,
        maxSequences: shape.maxSequences,
        fingerprint: checkpoint.fingerprint,
        adapters: adapters.named.map(([name]) => name),
        device: description.device,
        isa: description.isa,
        threads: description.threads,
        memory: {
          weights: decoder.weightBytes,
          lora: lora?.space.used ?? 0,
          kvCache: runner.kvBytes,
          scratch: context.memory().scratchBytes,
        },
        loadSeconds: (performance.now() - started) / 1000,
      },
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

function contextOptions(options: EngineOptions): ContextOptions {
  return { device: options.device === "auto" ? "cpu" : options.device, threads: options.threads };
}
